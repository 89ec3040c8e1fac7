//! Provider keys on the wire: a value goes in, once, and never comes out.

use std::fmt;

use odock_events::{
    clock::Timestamp,
    ids::{OrganisationId, ProviderId, ProviderKeyId},
    state::ProviderKey,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::body::member::Member;

/// A provider's secret as the caller sent it. Tells nothing of itself.
#[derive(Clone)]
pub(crate) struct PlainValue(Zeroizing<String>);

impl<'de> Deserialize<'de> for PlainValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)
            .map(Zeroizing::new)
            .map(Self)
    }
}

impl PlainValue {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PlainValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainValue(redacted)")
    }
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderKeyCreate {
    #[schema(value_type = String)]
    pub(crate) provider_id: ProviderId,
    pub(crate) name: String,
    /// The provider's key; either this or `envelope`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) value: Option<PlainValue>,
    /// The same sealed by the caller: `{v,alg,keyId,wrappedKey,iv,ciphertext}`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) envelope: Option<Value>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderKeyPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) name: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) value: Option<PlainValue>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) envelope: Option<Value>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) provider_id: Member<Value>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ProviderKeyView {
    #[schema(value_type = String)]
    id: ProviderKeyId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    #[schema(value_type = String)]
    provider_id: ProviderId,
    name: String,
    key_preview: String,
    revoked: bool,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl From<ProviderKey> for ProviderKeyView {
    fn from(row: ProviderKey) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            provider_id: row.body.provider_id,
            name: row.body.name,
            key_preview: row.body.key_preview,
            revoked: row.body.revoked,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
