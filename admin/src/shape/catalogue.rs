//! The price catalogue on the wire: entries, imports, updates of prices and what they change.

use odock_events::ids::{ModelId, ProviderId, ProviderKeyId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::model::{ModelConfigShape, ModelView, PricingShape};

/// The description of an entry.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct EntryView {
    /// `<vendor>/<slug>`.
    id: String,
    vendor: String,
    provider_type: String,
    slug: String,
    #[schema(rename = "type")]
    kind: String,
    capabilities: Vec<String>,
    config: ModelConfigShape,
    pricing: PricingShape,
    /// What the vendor bills and `pricing` cannot say.
    gaps: Vec<String>,
    /// The date of its facts.
    catalogue_version: String,
    catalogue_source: String,
    /// In an organisation's list: a model of it has this entry or its slug.
    existing: Option<bool>,
}

/// Models to make of entries: all of them or none.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelImport {
    #[schema(value_type = String)]
    pub(crate) provider_id: ProviderId,
    #[schema(value_type = String)]
    pub(crate) provider_key_id: ProviderKeyId,
    /// What becomes of entries that the organisation has already.
    #[serde(default)]
    pub(crate) existing: Existing,
    pub(crate) entries: Vec<ImportEntry>,
}

/// An entry is there already when a model of the organisation has its name, or, unless it is given a name of its own,
/// when one of the same provider has its slug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Existing {
    #[default]
    Refuse,
    Skip,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportEntry {
    pub(crate) catalogue_id: String,
    /// What clients send; by default the slug.
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// The answer of an import or of an update of prices.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct ModelBatchView {
    created: Vec<ModelView>,
    updated: Vec<ModelView>,
    /// Entries that were there already.
    skipped: Vec<String>,
    /// With `dry_run`, instead of the above: the models that would change.
    data: Option<Vec<ModelDiff>>,
    catalogue_version: Option<String>,
}

/// Brings the prices of models that are there to the catalogue's. A model with a price of its own keeps it.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PricingUpdate {
    /// By default all of the organisation's.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub(crate) model_ids: Option<Vec<ModelId>>,
    /// Only say what would change.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// What an update of prices would change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PricingDiffView {
    pub(crate) catalogue_version: String,
    pub(crate) data: Vec<ModelDiff>,
}

/// One model's price against the catalogue's.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelDiff {
    #[schema(value_type = String)]
    pub(crate) model_id: ModelId,
    pub(crate) name: String,
    /// `None`: the catalogue has no entry for it.
    pub(crate) catalogue_id: Option<String>,
    pub(crate) price_version: u32,
    /// `model`, `catalogue` or `none`.
    pub(crate) price_source: String,
    /// An update of prices changes it.
    pub(crate) updates: bool,
    pub(crate) changes: Vec<FieldDiff>,
}

/// One number of a price; null where a side does not have it.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FieldDiff {
    /// Its place in `pricing`, with slashes between its parts.
    pub(crate) field: String,
    pub(crate) in_force: Value,
    pub(crate) catalogue: Value,
}
