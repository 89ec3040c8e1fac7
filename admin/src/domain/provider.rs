//! Providers: where calls go. The address is checked when it is set.

use odock_events::{
    ids::ProviderId,
    kind::Event,
    payload::{Nothing, provider::ProviderBody},
    state::Provider,
};

use super::{base_url, changed, check, created, deleted, name_taken};
use crate::{
    body::member::{Member, refuse_fixed},
    command::{Decision, stamp::Stamp},
    error::{ApiError, Faults},
    shape::provider::{ProviderCreate, ProviderPatch},
};

const TIMEOUT_MS: u64 = 600_000;
const TIMEOUT_MS_MAX: u64 = 3_600_000;

/// What the rule needs beside the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    pub(crate) taken: bool,
    pub(crate) allow_private: bool,
}

pub(crate) fn create(
    stamp: &Stamp,
    id: ProviderId,
    asked: &ProviderCreate,
    around: Around,
) -> Result<Decision, ApiError> {
    let default_url = base_url::default_for(asked.kind).map(str::to_owned);
    let Some(base_url) = asked.base_url.clone().or(default_url) else {
        return Err(ApiError::invalid("/base_url", "is required for this type"));
    };
    let body = ProviderBody {
        kind: asked.kind,
        name: asked.name.clone(),
        base_url,
        timeout_ms: asked.timeout_ms.unwrap_or(TIMEOUT_MS),
        config: asked.config.clone().unwrap_or_default(),
        enabled: asked.enabled.unwrap_or(true),
    };
    created(stamp, id, Event::ProviderCreated(validate(body, around)?))
}

pub(crate) fn update(
    stamp: &Stamp,
    row: Provider,
    asked: &ProviderPatch,
    around: Around,
) -> Result<Decision, ApiError> {
    refuse_fixed("/type", &asked.kind)?;
    let before = &row.body;
    let base_url = match &asked.base_url {
        Member::Absent => before.base_url.clone(),
        Member::Given(url) => url.clone(),
        Member::Null => base_url::default_for(before.kind)
            .map(str::to_owned)
            .ok_or_else(|| ApiError::invalid("/base_url", "cannot be null for this type"))?,
    };
    let body = ProviderBody {
        kind: before.kind,
        name: asked.name.or_refuse_null("/name", &before.name)?,
        base_url,
        timeout_ms: asked.timeout_ms.or(&before.timeout_ms, || TIMEOUT_MS),
        config: asked.config.or(&before.config, Default::default),
        enabled: asked.enabled.or(&before.enabled, || true),
    };
    let body = validate(body, around)?;
    changed(stamp, row.into(), Event::ProviderUpdated(body))
}

pub(crate) fn delete(
    stamp: &Stamp,
    row: Provider,
    referrer: Option<String>,
) -> Result<Decision, ApiError> {
    deleted(
        stamp,
        row.into(),
        referrer,
        Event::ProviderDeleted(Nothing {}),
    )
}

fn validate(body: ProviderBody, around: Around) -> Result<ProviderBody, ApiError> {
    let mut faults = Faults::default();
    faults.take(check::name("/name", &body.name))?;
    faults.take(check::object("/config", &body.config))?;
    if !(1..=TIMEOUT_MS_MAX).contains(&body.timeout_ms) {
        faults.add("/timeout_ms", format!("must be 1 to {TIMEOUT_MS_MAX}"));
    }
    let base_url = base_url::normalise(&body.base_url, around.allow_private)
        .map_err(|error| ApiError::invalid("/base_url", error.to_string()));
    let base_url = faults.take(base_url)?.unwrap_or_default();
    faults.finish()?;
    if around.taken {
        return Err(name_taken(&body.name));
    }
    Ok(ProviderBody { base_url, ..body })
}

#[cfg(test)]
mod tests {
    use odock_events::ids::OrganisationId;

    use super::*;
    use crate::{body, domain::testing::after};

    const AROUND: Around = Around {
        taken: false,
        allow_private: false,
    };

    fn make(text: &str, around: Around) -> Result<Decision, ApiError> {
        let asked: ProviderCreate = body::read(text.as_bytes())?;
        let stamp = Stamp::for_testing(OrganisationId::generate());
        create(&stamp, ProviderId::generate(), &asked, around)
    }

    #[test]
    fn a_type_brings_its_own_address_and_defaults() {
        let decision = make(r#"{"type":"openai","name":"OpenAI"}"#, AROUND).unwrap();
        let row = after::<ProviderBody>(&decision);
        assert_eq!(row.body.base_url, "https://api.openai.com/v1");
        assert_eq!((row.body.timeout_ms, row.body.enabled), (600_000, true));
        let patch: ProviderPatch =
            body::read(br#"{"enabled":false,"base_url":"https://proxy.example.com/"}"#).unwrap();
        let stamp = Stamp::for_testing(row.organisation_id);
        let row = after::<ProviderBody>(&update(&stamp, row, &patch, AROUND).unwrap());
        assert_eq!(row.body.base_url, "https://proxy.example.com");
        assert!(!row.body.enabled);
        let patch: ProviderPatch = body::read(br#"{"type":"custom"}"#).unwrap();
        assert!(update(&stamp, row, &patch, AROUND).is_err());
    }

    #[test]
    fn an_address_is_needed_and_must_be_public() {
        assert!(make(r#"{"type":"custom","name":"c"}"#, AROUND).is_err());
        let local = r#"{"type":"custom","name":"c","base_url":"http://127.0.0.1:8082/v1"}"#;
        assert_eq!(
            make(local, AROUND).err().unwrap().fields[0].field,
            "/base_url"
        );
        assert!(
            make(
                local,
                Around {
                    allow_private: true,
                    ..AROUND
                }
            )
            .is_ok()
        );
        let zero = r#"{"type":"openai","name":"c","timeout_ms":0}"#;
        assert_eq!(
            make(zero, AROUND).err().unwrap().fields[0].field,
            "/timeout_ms"
        );
    }
}
