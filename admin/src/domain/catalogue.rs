//! Models and the catalogue: imports, updates of prices, and how a model's price differs from its entry's.

use std::collections::BTreeSet;

use odock_events::{
    envelope::Envelope,
    ids::ModelId,
    kind::Event,
    payload::{
        model::{ModelBody, PriceSource},
        provider::ProviderType,
    },
    pricing::Pricing,
    state::{EntityRow, Model},
};
use serde_json::Value;

use super::model::{self, Around};
use crate::{
    catalogue::{self, Entry},
    command::{Decision, answer::Answer, stamp::Stamp},
    error::{ApiError, Code, Faults},
    shape::{
        catalogue::{Existing, FieldDiff, ImportEntry, ModelDiff, ModelImport},
        model::ModelCreate,
    },
};

/// Entries of one import, models of one update.
pub(crate) const BATCH_MAX: usize = 500;

/// What an import is decided on.
pub(crate) struct Known {
    pub(crate) around: Around,
    /// Names of models in the organisation, of those that are asked for.
    pub(crate) names: BTreeSet<String>,
    /// Slugs that the provider has models of, of those that are asked for.
    pub(crate) slugs: BTreeSet<String>,
}

/// An entry and the name it is to have.
struct Wanted {
    entry: Entry,
    name: String,
    named: bool,
}

pub(crate) fn import(
    stamp: &Stamp,
    asked: &ModelImport,
    known: &Known,
) -> Result<Decision, ApiError> {
    let mut faults = Faults::default();
    let wanted = read(&asked.entries, &mut faults)?;
    faults.finish()?;
    let mut envelopes: Vec<Envelope> = Vec::new();
    let mut created: Vec<EntityRow> = Vec::new();
    let mut skipped = Vec::new();
    for (index, one) in wanted.iter().enumerate() {
        let there =
            known.names.contains(&one.name) || !one.named && known.slugs.contains(&one.entry.slug);
        match (there, asked.existing) {
            (true, Existing::Skip) => {
                skipped.push(one.entry.id.clone());
                continue;
            }
            (true, Existing::Refuse) => {
                let message = format!(
                    "`{}` is there already: give it another name, or skip what is there",
                    one.name
                );
                return Err(ApiError::field(
                    Code::NameTaken,
                    format!("/entries/{index}/name"),
                    message,
                ));
            }
            (false, _) => {}
        }
        let decision = model::create(
            stamp,
            ModelId::generate(),
            &create(asked, one),
            &known.around,
        )?;
        envelopes.extend(decision.envelopes);
        if let Answer::Created(row) = decision.answer {
            created.push(*row);
        }
    }
    let answer = Answer::Models {
        created,
        updated: Vec::new(),
        skipped,
    };
    Ok(Decision::new(envelopes, answer))
}

fn read(entries: &[ImportEntry], faults: &mut Faults) -> Result<Vec<Wanted>, ApiError> {
    if !(1..=BATCH_MAX).contains(&entries.len()) {
        return Err(ApiError::invalid(
            "/entries",
            format!("expected 1 to {BATCH_MAX} entries"),
        ));
    }
    let mut seen = BTreeSet::new();
    let mut wanted = Vec::with_capacity(entries.len());
    for (index, asked) in entries.iter().enumerate() {
        let Some(entry) = catalogue::get(&asked.catalogue_id) else {
            faults.add(
                format!("/entries/{index}/catalogue_id"),
                "the catalogue has no such entry",
            );
            continue;
        };
        let name = asked.name.clone().unwrap_or_else(|| entry.slug.clone());
        if let Err(error) = super::check::name(&format!("/entries/{index}/name"), &name) {
            faults.take::<()>(Err(error))?;
        }
        if !seen.insert(name.clone()) {
            faults.add(format!("/entries/{index}/name"), "is there twice");
        }
        wanted.push(Wanted {
            entry,
            name,
            named: asked.name.is_some(),
        });
    }
    Ok(wanted)
}

fn create(asked: &ModelImport, wanted: &Wanted) -> ModelCreate {
    let entry = &wanted.entry;
    ModelCreate {
        name: wanted.name.clone(),
        slug: Some(entry.slug.clone()),
        kind: entry.kind,
        capabilities: Some(entry.capabilities.clone()),
        provider_id: asked.provider_id,
        provider_key_id: asked.provider_key_id,
        config: Some(entry.config.clone()),
        pricing: None,
        catalogue_id: Some(entry.id.clone()),
        policies: None,
    }
}

/// A model with the type of its provider.
pub(crate) type Priced = (Model, Option<ProviderType>);

/// The next version of every model whose price in force is the catalogue's of another day.
pub(crate) fn update_pricing(stamp: &Stamp, models: Vec<Priced>) -> Result<Decision, ApiError> {
    let mut envelopes = Vec::new();
    let mut updated = Vec::new();
    for (row, provider) in models {
        let price = model::resolve(provider, &row.body, Some(&row.body.price));
        if price == row.body.price {
            continue;
        }
        let body = ModelBody {
            price,
            ..row.body.clone()
        };
        let decision = super::changed(stamp, row.into(), Event::ModelUpdated(body))?;
        envelopes.extend(decision.envelopes);
        if let Answer::Changed(row) = decision.answer {
            updated.push(*row);
        }
    }
    let answer = Answer::Models {
        created: Vec::new(),
        updated,
        skipped: Vec::new(),
    };
    Ok(Decision::new(envelopes, answer))
}

/// How the price in force differs from the catalogue's.
pub(crate) fn diff(row: &Model, provider: Option<ProviderType>) -> Result<ModelDiff, ApiError> {
    let entry = model::entry_of(provider, &row.body);
    let price = &row.body.price;
    let changes = match &entry {
        Some(entry) => fields(price.pricing.as_deref(), &entry.pricing)?,
        None => Vec::new(),
    };
    let updates = model::resolve(provider, &row.body, Some(price)).version != price.version;
    Ok(ModelDiff {
        model_id: row.id,
        name: row.body.name.clone(),
        catalogue_id: entry.map(|entry| entry.id),
        price_version: price.version,
        price_source: match price.source {
            PriceSource::Model => "model",
            PriceSource::Catalogue => "catalogue",
            PriceSource::None => "none",
        }
        .to_owned(),
        updates,
        changes,
    })
}

fn fields(in_force: Option<&Pricing>, listed: &Pricing) -> Result<Vec<FieldDiff>, ApiError> {
    let json = |pricing: &Pricing| serde_json::to_value(pricing).map_err(ApiError::internal);
    let in_force = in_force.map(json).transpose()?.unwrap_or_default();
    let mut changes = Vec::new();
    compare("", &in_force, &json(listed)?, &mut changes);
    Ok(changes)
}

/// Collects the leaves that differ.
fn compare(place: &str, in_force: &Value, listed: &Value, changes: &mut Vec<FieldDiff>) {
    if in_force == listed {
        return;
    }
    let (left, right) = (members(in_force), members(listed));
    if left.is_empty() && right.is_empty() {
        changes.push(FieldDiff {
            field: place.to_owned(),
            in_force: in_force.clone(),
            catalogue: listed.clone(),
        });
        return;
    }
    let names: BTreeSet<&String> = left.iter().chain(&right).map(|(name, _)| name).collect();
    for name in names {
        let find = |side: &[(String, Value)]| {
            let found = side.iter().find(|(known, _)| known == name);
            found.map_or(Value::Null, |(_, value)| value.clone())
        };
        let place = if place.is_empty() {
            name.clone()
        } else {
            format!("{place}/{name}")
        };
        compare(&place, &find(&left), &find(&right), changes);
    }
}

/// The parts of an object or of a list; none of anything else.
fn members(value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        Value::Array(values) => values
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value.clone()))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use odock_events::{
        ids::{OrganisationId, ProviderId, ProviderKeyId},
        payload::model::{ModelConfig, ModelType, ResolvedPrice},
    };
    use serde_json::json;

    use super::*;
    use crate::domain::testing::{kinds, row};

    fn listed(stamp: &Stamp, pricing: Option<Pricing>, in_force: Option<Pricing>) -> Model {
        let source = if pricing.is_some() {
            PriceSource::Model
        } else {
            PriceSource::Catalogue
        };
        row(
            stamp,
            ModelBody {
                name: "mini".into(),
                slug: "gpt-4o-mini".into(),
                kind: ModelType::Chat,
                capabilities: Vec::new(),
                provider_id: ProviderId::generate(),
                provider_key_id: ProviderKeyId::generate(),
                config: ModelConfig::default(),
                pricing: pricing.map(Box::new),
                catalogue_id: None,
                policies: odock_events::payload::JsonObject::default(),
                price: ResolvedPrice {
                    version: 4,
                    source,
                    pricing: in_force.map(Box::new),
                },
            },
        )
    }

    #[test]
    fn an_update_touches_only_prices_of_the_catalogue_that_changed() {
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let openai = Some(ProviderType::OpenAi);
        let today = catalogue::get("openai/gpt-4o-mini").unwrap().pricing;
        let yesterday = Pricing::of_tokens(1, 2);
        let own = Pricing::of_tokens(3, 4);
        let stale = listed(&stamp, None, Some(yesterday.clone()));
        let before = diff(&stale, openai).unwrap();
        assert!(before.updates && before.changes.len() > 2, "{before:?}");
        let models = vec![
            (stale, openai),
            (listed(&stamp, None, Some(today.clone())), openai),
            (listed(&stamp, Some(own.clone()), Some(own)), openai),
        ];
        let decision = update_pricing(&stamp, models).unwrap();
        assert_eq!(kinds(&decision), ["model.updated"]);
        let Answer::Models { updated, .. } = decision.answer else {
            panic!("models");
        };
        let [EntityRow::Model(after)] = updated.as_slice() else {
            panic!("{updated:?}");
        };
        assert_eq!(after.body.price.version, 5);
        assert_eq!(after.body.price.pricing.as_deref(), Some(&today));
        assert!(!diff(after, openai).unwrap().updates);
    }

    #[test]
    fn a_diff_names_every_number_that_differs() {
        let ours: Pricing = serde_json::from_value(json!({
            "input_per_million_nanos": 1, "output_per_million_nanos": 2, "cached_input_per_million_nanos": 1,
            "units_per_million_nanos": { "pages": 5 },
        }))
        .unwrap();
        let listed: Pricing = serde_json::from_value(json!({
            "input_per_million_nanos": 3, "output_per_million_nanos": 2,
            "units_per_million_nanos": { "pages": 6 },
            "long_context": [{ "above_input_tokens": 9, "rates": { "input_per_million_nanos": 7 } }],
        }))
        .unwrap();
        let found: Vec<(String, Value, Value)> = fields(Some(&ours), &listed)
            .unwrap()
            .into_iter()
            .map(|change| (change.field, change.in_force, change.catalogue))
            .collect();
        let row = |field: &str, ours: Value, listed: Value| (field.to_owned(), ours, listed);
        assert_eq!(
            found,
            [
                row("cached_input_per_million_nanos", json!(1), Value::Null),
                row("input_per_million_nanos", json!(1), json!(3)),
                row("long_context/0/above_input_tokens", Value::Null, json!(9)),
                row(
                    "long_context/0/rates/input_per_million_nanos",
                    Value::Null,
                    json!(7)
                ),
                row("units_per_million_nanos/pages", json!(5), json!(6)),
            ]
        );
        assert!(fields(Some(&listed), &listed).unwrap().is_empty());
    }
}
