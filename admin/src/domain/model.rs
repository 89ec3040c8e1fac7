//! Models: a name for clients, a slug for the provider, and the price in force, resolved here: the operator's own, else the
//! catalogue's. The price's version rises when what is charged changes.

use odock_events::{
    ids::ModelId,
    kind::Event,
    payload::{
        Nothing,
        model::{Capability, ModelBody, ModelConfig, PriceSource, ResolvedPrice},
        provider::ProviderType,
    },
    pricing::Pricing,
    state::{Model, Provider, ProviderKey},
};

use super::{changed, check, created, deleted, name_taken, no_such};
use crate::{
    catalogue,
    command::{Decision, stamp::Stamp},
    error::{ApiError, Faults},
    shape::model::{ModelCreate, ModelPatch},
};

const SLUG_MAX: usize = 200;
const TOKENS_MAX: u64 = 1_000_000_000;

/// What is there of what the model refers to.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    pub(crate) provider: Option<Provider>,
    pub(crate) provider_key: Option<ProviderKey>,
    pub(crate) taken: bool,
}

pub(crate) fn create(
    stamp: &Stamp,
    id: ModelId,
    asked: &ModelCreate,
    around: &Around,
) -> Result<Decision, ApiError> {
    let body = ModelBody {
        name: asked.name.clone(),
        slug: asked.slug.clone().unwrap_or_else(|| asked.name.clone()),
        kind: asked.kind,
        capabilities: asked.capabilities.clone().unwrap_or_default(),
        provider_id: asked.provider_id,
        provider_key_id: asked.provider_key_id,
        config: asked.config.clone().unwrap_or_default(),
        pricing: asked.pricing.clone(),
        catalogue_id: asked.catalogue_id.clone(),
        policies: asked.policies.clone().unwrap_or_default(),
        price: ResolvedPrice {
            version: 0,
            source: PriceSource::None,
            pricing: None,
        },
    };
    let body = finish(body, None, around)?;
    created(stamp, id, Event::ModelCreated(body))
}

pub(crate) fn update(
    stamp: &Stamp,
    row: Model,
    asked: &ModelPatch,
    around: &Around,
) -> Result<Decision, ApiError> {
    let before = &row.body;
    let name = asked.name.or_refuse_null("/name", &before.name)?;
    let body = ModelBody {
        slug: asked.slug.or(&before.slug, || name.clone()),
        name,
        kind: asked.kind.or_refuse_null("/type", &before.kind)?,
        capabilities: asked.capabilities.or(&before.capabilities, Vec::new),
        provider_id: asked
            .provider_id
            .or_refuse_null("/provider_id", &before.provider_id)?,
        provider_key_id: asked
            .provider_key_id
            .or_refuse_null("/provider_key_id", &before.provider_key_id)?,
        config: asked.config.or(&before.config, ModelConfig::default),
        pricing: asked.pricing.or_cleared(before.pricing.as_ref()),
        catalogue_id: asked.catalogue_id.or_cleared(before.catalogue_id.as_ref()),
        policies: asked.policies.or(&before.policies, Default::default),
        price: before.price.clone(),
    };
    let body = finish(body, Some(&before.price), around)?;
    changed(stamp, row.into(), Event::ModelUpdated(body))
}

pub(crate) fn delete(
    stamp: &Stamp,
    row: Model,
    referrer: Option<String>,
) -> Result<Decision, ApiError> {
    deleted(stamp, row.into(), referrer, Event::ModelDeleted(Nothing {}))
}

/// Validates, and puts the price in force in.
fn finish(
    body: ModelBody,
    before: Option<&ResolvedPrice>,
    around: &Around,
) -> Result<ModelBody, ApiError> {
    let mut faults = Faults::default();
    faults.take(check::name("/name", &body.name))?;
    check_slug(&body.slug, &mut faults);
    check_config(&body.config, &mut faults);
    if let Some(Err(error)) = body.pricing.as_deref().map(Pricing::validate) {
        faults.add(format!("/pricing/{}", error.field), error.why);
    }
    if let Some(id) = &body.catalogue_id
        && catalogue::get(id).is_none()
    {
        faults.add("/catalogue_id", "the catalogue has no such entry");
    }
    faults.take(check::policies(&body.policies))?;
    let provider = around.provider.as_ref();
    if provider.is_none() {
        faults.take::<()>(Err(no_such("/provider_id", "provider")))?;
    }
    match &around.provider_key {
        None => drop(faults.take::<()>(Err(no_such("/provider_key_id", "provider key")))?),
        Some(key) if key.body.provider_id != body.provider_id => {
            faults.add("/provider_key_id", "belongs to another provider");
        }
        Some(_) => {}
    }
    faults.finish()?;
    if around.taken {
        return Err(name_taken(&body.name));
    }
    let kind = provider.map(|provider| provider.body.kind);
    let price = resolve(kind, &body, before);
    let mut capabilities: Vec<Capability> = Vec::new();
    for capability in body.capabilities {
        if !capabilities.contains(&capability) {
            capabilities.push(capability);
        }
    }
    Ok(ModelBody {
        capabilities,
        price,
        ..body
    })
}

/// The entry of the catalogue that a model is, if it is one.
pub(crate) fn entry_of(
    provider: Option<ProviderType>,
    body: &ModelBody,
) -> Option<catalogue::Entry> {
    match &body.catalogue_id {
        Some(id) => catalogue::get(id),
        None => catalogue::find(provider?, &body.slug),
    }
}

/// The price in force: the model's own, else the catalogue's.
pub(crate) fn resolve(
    provider: Option<ProviderType>,
    body: &ModelBody,
    before: Option<&ResolvedPrice>,
) -> ResolvedPrice {
    let (source, pricing) = match &body.pricing {
        Some(pricing) => (PriceSource::Model, Some(pricing.clone())),
        None => match entry_of(provider, body) {
            Some(entry) => (PriceSource::Catalogue, Some(Box::new(entry.pricing))),
            None => (PriceSource::None, None),
        },
    };
    let version = match before {
        None => 1,
        Some(before) if before.source == source && before.pricing == pricing => before.version,
        Some(before) => before.version + 1,
    };
    ResolvedPrice {
        version,
        source,
        pricing,
    }
}

fn check_slug(slug: &str, faults: &mut Faults) {
    let length = slug.chars().count();
    if !(1..=SLUG_MAX).contains(&length)
        || slug.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        faults.add(
            "/slug",
            format!("must have 1 to {SLUG_MAX} characters and no white space"),
        );
    }
}

fn check_config(config: &ModelConfig, faults: &mut Faults) {
    for (member, value) in [
        ("context_window", config.context_window),
        ("max_output_tokens", config.max_output_tokens),
        ("max_image_tokens", config.max_image_tokens),
        (
            "max_low_detail_image_tokens",
            config.max_low_detail_image_tokens,
        ),
        ("max_audio_tokens", config.max_audio_tokens),
        ("max_file_tokens", config.max_file_tokens),
        ("max_web_searches", config.max_web_searches),
    ] {
        if value.is_some_and(|value| !(1..=TOKENS_MAX).contains(&value)) {
            faults.add(
                format!("/config/{member}"),
                format!("must be 1 to {TOKENS_MAX}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use odock_events::{
        ids::{OrganisationId, SealedSecretId},
        payload::provider::{ProviderBody, ProviderKeyBody},
        units::Sha256Digest,
    };
    use serde_json::json;

    use super::*;
    use crate::{
        body,
        domain::testing::{after, row},
        error::Code,
    };

    fn around(stamp: &Stamp, kind: ProviderType) -> Around {
        let provider = row(
            stamp,
            ProviderBody {
                kind,
                name: "p".into(),
                base_url: "https://example.com".into(),
                timeout_ms: 1,
                config: odock_events::payload::JsonObject::default(),
                enabled: true,
            },
        );
        let provider_key = row(
            stamp,
            ProviderKeyBody {
                provider_id: provider.id,
                name: "k".into(),
                key_preview: "…".into(),
                revoked: false,
                sealed_secret_id: SealedSecretId::generate(),
                sealed_sha256: Sha256Digest::of(b""),
            },
        );
        Around {
            provider: Some(provider),
            provider_key: Some(provider_key),
            taken: false,
        }
    }

    fn asked(around: &Around, more: &serde_json::Value) -> Result<ModelCreate, ApiError> {
        let mut text = json!({
            "name": "fast", "type": "chat",
            "provider_id": around.provider.as_ref().unwrap().id,
            "provider_key_id": around.provider_key.as_ref().unwrap().id,
        });
        text.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body::read(text.to_string().as_bytes())
    }

    #[test]
    fn the_price_comes_from_the_model_the_catalogue_or_nowhere() {
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let openai = around(&stamp, ProviderType::OpenAi);
        let listed = catalogue::find(ProviderType::OpenAi, "gpt-4o-mini").unwrap();
        let make = |around: &Around, more: serde_json::Value| {
            let asked = asked(around, &more).unwrap();
            after::<ModelBody>(&create(&stamp, ModelId::generate(), &asked, around).unwrap())
        };
        let model = make(&openai, json!({ "slug": listed.slug }));
        assert_eq!(model.body.price.source, PriceSource::Catalogue);
        assert_eq!(model.body.price.pricing.as_deref(), Some(&listed.pricing));
        let model = make(&openai, json!({ "slug": "not-listed" }));
        assert_eq!(
            (model.body.price.source, model.body.price.pricing),
            (PriceSource::None, None)
        );
        let pricing = json!({ "slug": listed.slug, "pricing": { "per_request_nanos": 7 } });
        let model = make(&openai, pricing);
        assert_eq!(
            (model.body.price.source, model.body.price.version),
            (PriceSource::Model, 1)
        );
        let custom = around(&stamp, ProviderType::Custom);
        let named = json!({ "catalogue_id": "openai/gpt-4o-mini" });
        let model = make(&custom, named);
        assert_eq!(model.body.price.source, PriceSource::Catalogue);
        let unknown = asked(&custom, &json!({ "catalogue_id": "openai/none" })).unwrap();
        let error = create(&stamp, ModelId::generate(), &unknown, &custom);
        assert_eq!(error.err().unwrap().fields[0].field, "/catalogue_id");
        let model = make(&custom, json!({}));
        assert_eq!(
            (model.body.slug.as_str(), model.body.price.source),
            ("fast", PriceSource::None)
        );
    }

    #[test]
    fn the_price_version_rises_only_when_the_price_changes() {
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let around = around(&stamp, ProviderType::Custom);
        let asked = asked(&around, &json!({ "pricing": { "per_request_nanos": 7 } })).unwrap();
        let mut model =
            after::<ModelBody>(&create(&stamp, ModelId::generate(), &asked, &around).unwrap());
        for (patch, version) in [
            (json!({ "name": "slow" }), 1),
            (json!({ "pricing": { "per_request_nanos": 7 } }), 1),
            (json!({ "pricing": { "per_request_nanos": 8 } }), 2),
            (json!({ "pricing": null }), 3),
        ] {
            let patch: ModelPatch = body::read(patch.to_string().as_bytes()).unwrap();
            model = after(&update(&stamp, model, &patch, &around).unwrap());
            assert_eq!(model.body.price.version, version, "{patch:?}");
        }
        assert_eq!(model.body.slug, "fast");
    }

    #[test]
    fn references_and_bounds_are_checked() {
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let good = around(&stamp, ProviderType::Custom);
        let fields = |around: &Around, more: serde_json::Value| {
            let asked = asked(&good, &more).unwrap();
            let error = create(&stamp, ModelId::generate(), &asked, around)
                .err()
                .unwrap();
            error
                .fields
                .into_iter()
                .map(|fault| fault.field)
                .collect::<Vec<_>>()
        };
        let missing = Around {
            provider: None,
            provider_key: None,
            taken: false,
        };
        assert_eq!(
            fields(&missing, json!({})),
            ["/provider_id", "/provider_key_id"]
        );
        let foreign = Around {
            provider_key: around(&stamp, ProviderType::Custom).provider_key,
            ..good.clone()
        };
        assert_eq!(fields(&foreign, json!({})), ["/provider_key_id"]);
        let negative = json!({ "pricing": { "input_per_million_nanos": -1 }, "config": { "max_output_tokens": 0 } });
        assert_eq!(
            fields(&good, negative),
            [
                "/config/max_output_tokens",
                "/pricing/input_per_million_nanos"
            ]
        );
        let taken = Around {
            taken: true,
            ..good.clone()
        };
        let asked = asked(&good, &json!({})).unwrap();
        let error = create(&stamp, ModelId::generate(), &asked, &taken)
            .err()
            .unwrap();
        assert_eq!(error.code, Code::NameTaken);
    }
}
