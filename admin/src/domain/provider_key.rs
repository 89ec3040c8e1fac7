//! Provider keys: a secret is sealed before anything else happens to it. Events carry the id of the envelope and the hash
//! of what lies there.

use odock_events::{
    ids::{OrganisationId, ProviderId, ProviderKeyId, SealedSecretId},
    kind::Event,
    payload::{Nothing, provider::ProviderKeyBody},
    seal::{Envelope, PublicKey, SealError, associated_data},
    secret_key::mask,
    state::ProviderKey,
    units::Sha256Digest,
};
use serde_json::Value;

use super::{changed, check, created, deleted, no_such, unchanged};
use crate::{
    body::member::refuse_fixed,
    command::{Decision, stamp::Stamp},
    error::ApiError,
    queries::private::PrivateRow,
    shape::provider_key::{PlainValue, ProviderKeyCreate, ProviderKeyPatch},
};

/// The mask of what the admin never saw.
const UNSEEN: &str = "…";

/// A secret that can go to the table of sealed ones.
#[derive(Clone, Debug)]
pub(crate) struct SealedValue {
    id: SealedSecretId,
    envelope: String,
    sha256: Sha256Digest,
    key_preview: String,
}

impl SealedValue {
    /// Seals a value, or takes an envelope whose key, sizes and form fit. Exactly one of them.
    pub(crate) fn read(
        key: &PublicKey,
        owner: (OrganisationId, ProviderId),
        value: Option<&PlainValue>,
        envelope: Option<&Value>,
    ) -> Result<Self, ApiError> {
        match (value, envelope) {
            (Some(value), None) => {
                let plain = value.expose();
                let sealed = key
                    .seal(plain, &associated_data(owner.0, owner.1))
                    .map_err(|error| refuse("/value", error))?;
                Ok(Self::new(&sealed, mask(plain)))
            }
            (None, Some(envelope)) => {
                let envelope = Envelope::from_json(envelope.to_string().as_bytes())
                    .map_err(|error| refuse("/envelope", error))?;
                key.check(&envelope)
                    .map_err(|error| refuse("/envelope", error))?;
                Ok(Self::new(&envelope, UNSEEN.to_owned()))
            }
            (Some(_), Some(_)) => Err(ApiError::invalid(
                "/envelope",
                "give either value or envelope, not both",
            )),
            (None, None) => Err(ApiError::invalid("/value", "give either value or envelope")),
        }
    }

    fn new(envelope: &Envelope, key_preview: String) -> Self {
        let envelope = envelope.to_json();
        let sha256 = Sha256Digest::of(envelope.as_bytes());
        Self {
            id: SealedSecretId::generate(),
            envelope,
            sha256,
            key_preview,
        }
    }

    fn row(&self, organisation_id: OrganisationId, provider_id: ProviderId) -> PrivateRow {
        PrivateRow::SealedSecret {
            id: self.id,
            organisation_id,
            provider_id,
            envelope: self.envelope.clone(),
            sha256: self.sha256,
        }
    }
}

fn refuse(field: &str, error: SealError) -> ApiError {
    ApiError::invalid(field, error.to_string())
}

pub(crate) fn create(
    stamp: &Stamp,
    id: ProviderKeyId,
    asked: &ProviderKeyCreate,
    sealed: &SealedValue,
    provider: Option<OrganisationId>,
) -> Result<Decision, ApiError> {
    check::name("/name", &asked.name)?;
    let organisation = provider.ok_or_else(|| no_such("/provider_id", "provider"))?;
    let body = ProviderKeyBody {
        provider_id: asked.provider_id,
        name: asked.name.clone(),
        key_preview: sealed.key_preview.clone(),
        revoked: false,
        sealed_secret_id: sealed.id,
        sealed_sha256: sealed.sha256,
    };
    let mut decision = created(stamp, id, Event::ProviderKeyCreated(body))?;
    decision
        .private
        .push(sealed.row(organisation, asked.provider_id));
    Ok(decision)
}

pub(crate) fn update(
    stamp: &Stamp,
    row: ProviderKey,
    asked: &ProviderKeyPatch,
    sealed: Option<&SealedValue>,
) -> Result<Decision, ApiError> {
    refuse_fixed("/provider_id", &asked.provider_id)?;
    let mut body = row.body.clone();
    body.name = asked.name.or_refuse_null("/name", &body.name)?;
    check::name("/name", &body.name)?;
    if let Some(sealed) = sealed {
        body.key_preview.clone_from(&sealed.key_preview);
        body.sealed_secret_id = sealed.id;
        body.sealed_sha256 = sealed.sha256;
    }
    let private = sealed.map(|sealed| sealed.row(row.organisation_id, body.provider_id));
    let mut decision = changed(stamp, row.into(), Event::ProviderKeyUpdated(body))?;
    decision.private.extend(private);
    Ok(decision)
}

/// For good: a revoked one is replaced, not taken back.
pub(crate) fn revoke(stamp: &Stamp, row: ProviderKey) -> Result<Decision, ApiError> {
    if row.body.revoked {
        return Ok(unchanged(row.into()));
    }
    changed(stamp, row.into(), Event::ProviderKeyRevoked(Nothing {}))
}

pub(crate) fn delete(
    stamp: &Stamp,
    row: ProviderKey,
    referrer: Option<String>,
) -> Result<Decision, ApiError> {
    deleted(
        stamp,
        row.into(),
        referrer,
        Event::ProviderKeyDeleted(Nothing {}),
    )
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;
    use crate::{
        body,
        domain::testing::{after, kinds},
    };

    const PLAIN: &str = "sk-proj-0123456789abcdef";

    fn keys() -> (PublicKey, odock_events::seal::PrivateKey) {
        let public = include_str!("../../../events/src/seal/fixtures/webcrypto_public.pem");
        let private = include_str!("../../../events/src/seal/fixtures/webcrypto_private.pem");
        (
            PublicKey::from_pem(public).unwrap(),
            odock_events::seal::PrivateKey::from_pem(private).unwrap(),
        )
    }

    #[test]
    fn a_value_is_sealed_for_its_owner_and_in_no_event() {
        let (public, private) = keys();
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let organisation = stamp.organisation_id.unwrap();
        let provider = ProviderId::generate();
        let text = json!({ "provider_id": provider, "name": "main", "value": PLAIN }).to_string();
        let asked: ProviderKeyCreate = body::read(text.as_bytes()).unwrap();
        assert!(!format!("{asked:?}").contains(PLAIN));
        let owner = (organisation, provider);
        let sealed = SealedValue::read(&public, owner, asked.value.as_ref(), None).unwrap();
        let decision = create(
            &stamp,
            ProviderKeyId::generate(),
            &asked,
            &sealed,
            Some(organisation),
        )
        .unwrap();
        assert!(!format!("{:?}{:?}", decision.envelopes, decision.private).contains(PLAIN));
        let row = after::<ProviderKeyBody>(&decision);
        assert_eq!(row.body.key_preview, "sk-pro…cdef");
        let PrivateRow::SealedSecret {
            id,
            envelope,
            sha256,
            ..
        } = &decision.private[0]
        else {
            panic!("{:?}", decision.private);
        };
        assert_eq!(
            (*id, *sha256),
            (row.body.sealed_secret_id, row.body.sealed_sha256)
        );
        let envelope = Envelope::from_json(envelope.as_bytes()).unwrap();
        let opened = private
            .open(&envelope, &associated_data(organisation, provider))
            .unwrap();
        assert_eq!(opened.expose_secret(), PLAIN);
        assert!(
            private
                .open(
                    &envelope,
                    &associated_data(OrganisationId::generate(), provider)
                )
                .is_err()
        );
    }

    #[test]
    fn an_envelope_is_taken_as_it_is_and_shows_nothing() {
        let (public, _) = keys();
        let owner = (OrganisationId::generate(), ProviderId::generate());
        let envelope = public
            .seal(PLAIN, &associated_data(owner.0, owner.1))
            .unwrap()
            .to_json();
        let value: Value = serde_json::from_str(&envelope).unwrap();
        let sealed = SealedValue::read(&public, owner, None, Some(&value)).unwrap();
        assert_eq!(
            (sealed.envelope.as_str(), sealed.key_preview.as_str()),
            (envelope.as_str(), "…")
        );
        for (member, bad) in [
            ("keyId", json!("00000000000000000000000000000000")),
            ("v", json!(2)),
            ("iv", json!("AAAA")),
            ("wrappedKey", json!("AAAA")),
            ("more", json!(1)),
        ] {
            let mut value = value.clone();
            value[member] = bad;
            let error = SealedValue::read(&public, owner, None, Some(&value)).unwrap_err();
            assert_eq!(error.fields[0].field, "/envelope", "{member}");
        }
        assert!(SealedValue::read(&public, owner, None, None).is_err());
    }

    #[test]
    fn revoking_twice_changes_nothing() {
        let (public, _) = keys();
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let organisation = stamp.organisation_id.unwrap();
        let provider = ProviderId::generate();
        let text = json!({ "provider_id": provider, "name": "main", "value": PLAIN }).to_string();
        let asked: ProviderKeyCreate = body::read(text.as_bytes()).unwrap();
        let owner = (organisation, provider);
        let sealed = SealedValue::read(&public, owner, asked.value.as_ref(), None).unwrap();
        let decision = create(
            &stamp,
            ProviderKeyId::generate(),
            &asked,
            &sealed,
            Some(organisation),
        )
        .unwrap();
        let decision = revoke(&stamp, after(&decision)).unwrap();
        assert_eq!(kinds(&decision), ["provider_key.revoked"]);
        let again = revoke(&stamp, after(&decision)).unwrap();
        assert!(again.envelopes.is_empty());
        assert!(after::<ProviderKeyBody>(&again).body.revoked);
        let elsewhere = create(&stamp, ProviderKeyId::generate(), &asked, &sealed, None);
        assert_eq!(elsewhere.err().unwrap().fields[0].field, "/provider_id");
    }
}
