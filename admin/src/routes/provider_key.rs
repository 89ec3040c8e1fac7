//! `…/provider-keys`. A value is sealed while its rule is decided; what leaves here is ciphertext.

use async_trait::async_trait;
use odock_events::{
    ids::ProviderKeyId,
    payload::provider::{ProviderBody, ProviderKeyBody},
    state::ProviderKey,
};

use super::crud::{self, Act, Changeable, Resource};
use crate::{
    call::Call,
    command::{Decision, snapshot::Snapshot},
    domain::provider_key::{self, SealedValue},
    error::ApiError,
    page::{Filter, ListSpec, Takes},
    reply::Reply,
    shape::{
        key::NoBody,
        provider_key::{ProviderKeyCreate, ProviderKeyPatch},
    },
};

const FILTERS: &[Filter] = &[
    Filter::new("provider_id", "provider_id = ", Takes::Id("prov")),
    Filter::NAME,
    Filter::new("revoked", "(body ->> 'revoked')::boolean = ", Takes::Flag),
];

#[async_trait]
impl Resource for ProviderKeyBody {
    type Create = ProviderKeyCreate;
    const NOUN: &'static str = "provider key";
    const LIST: ListSpec = ListSpec::searchable(FILTERS);

    async fn create(
        at: &mut Snapshot<'_>,
        asked: &ProviderKeyCreate,
    ) -> Result<Decision, ApiError> {
        let organisation = at.organisation()?;
        let owner = (organisation, asked.provider_id);
        let (value, envelope) = (asked.value.as_ref(), asked.envelope.as_ref());
        let sealed = SealedValue::read(&at.app.sealing_key, owner, value, envelope)?;
        let provider = at
            .has::<ProviderBody>(asked.provider_id)
            .await?
            .then_some(organisation);
        provider_key::create(
            at.stamp,
            ProviderKeyId::generate(),
            asked,
            &sealed,
            provider,
        )
    }

    async fn delete(at: &mut Snapshot<'_>, row: ProviderKey) -> Result<Decision, ApiError> {
        let referrer = crud::referrer::<Self>(at, &row).await?;
        provider_key::delete(at.stamp, row, referrer)
    }
}

#[async_trait]
impl Changeable for ProviderKeyBody {
    type Patch = ProviderKeyPatch;

    async fn update(
        at: &mut Snapshot<'_>,
        row: ProviderKey,
        asked: &ProviderKeyPatch,
    ) -> Result<Decision, ApiError> {
        let owner = (row.organisation_id, row.body.provider_id);
        let (value, envelope) = (asked.value.as_ref(), asked.envelope.as_ref());
        let sealed = match (value, envelope) {
            (None, None) => None,
            _ => Some(SealedValue::read(
                &at.app.sealing_key,
                owner,
                value,
                envelope,
            )?),
        };
        provider_key::update(at.stamp, row, asked, sealed.as_ref())
    }
}

pub(crate) async fn revoke(call: Call) -> Result<Reply, ApiError> {
    call.json::<NoBody>()?;
    crud::act::<ProviderKeyBody, _>(call, Revoke).await
}

struct Revoke;

#[async_trait]
impl Act<ProviderKeyBody> for Revoke {
    async fn decide(&self, at: &mut Snapshot<'_>, row: ProviderKey) -> Result<Decision, ApiError> {
        provider_key::revoke(at.stamp, row)
    }
}
