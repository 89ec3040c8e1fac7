//! Models: the name that clients send, the slug that goes upstream, and the price in force.

use serde::{Deserialize, Serialize};

use super::JsonObject;
use crate::{
    ids::{ProviderId, ProviderKeyId},
    pricing::Pricing,
};

/// `model.created`, `model.updated`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelBody {
    pub name: String,
    pub slug: String,
    #[serde(rename = "type")]
    pub kind: ModelType,
    pub capabilities: Vec<Capability>,
    pub provider_id: ProviderId,
    pub provider_key_id: ProviderKeyId,
    pub config: ModelConfig,
    /// The operator's override; `None` takes the catalogue's price.
    pub pricing: Option<Box<Pricing>>,
    /// Which entry of the catalogue it is; `None`: the one with its provider's type and its slug, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogue_id: Option<String>,
    pub policies: JsonObject,
    /// The price in force, resolved when the event was made.
    pub price: ResolvedPrice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelType {
    Chat,
    Reasoning,
    Image,
    Embeddings,
    Audio,
    Moderation,
    Transcription,
    Tts,
    Ocr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    Vision,
    Reasoning,
    ToolUse,
}

/// Bounds that a reservation is computed from, in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// Most input tokens that one image part can cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_image_tokens: Option<u64>,
    /// The same for an image that is sent with `detail` low.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_low_detail_image_tokens: Option<u64>,
    /// Most input tokens that one audio part can cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_audio_tokens: Option<u64>,
    /// Most input tokens that one file can cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_file_tokens: Option<u64>,
    /// Most searches that one answer can bring about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_web_searches: Option<u64>,
}

/// The price of one version of a model. The version rises by one whenever `pricing` changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedPrice {
    pub version: u32,
    pub source: PriceSource,
    pub pricing: Option<Box<Pricing>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceSource {
    Model,
    Catalogue,
    None,
}
