//! Old payloads to today's schema, one pure function a step, so that the history stays readable for ever.
//! How to raise a kind: give `kind.rs` the new schema number, keep the old struct in `upcast/<family>.rs` with a
//! function from its bytes to the next schema's bytes, add that step to `raise`, keep the old golden.

use crate::kind::Kind;

mod model;
mod usage;

/// Raises a payload from `schema` to `kind.schema()`, a step at a time. A kind at its first schema has no step to take: the
/// bytes are handed on as they are.
pub fn raise(kind: Kind, schema: u16, payload: Vec<u8>) -> Result<Vec<u8>, Error> {
    debug_assert!(
        schema <= kind.schema(),
        "decode refuses newer schemas first"
    );
    if schema > 1 {
        return Ok(payload);
    }
    if matches!(kind, Kind::ModelCreated | Kind::ModelUpdated) {
        return model::to_2(&payload);
    }
    if kind == Kind::UsageFinished {
        return usage::to_2(&payload);
    }
    Ok(payload)
}

/// Why a payload cannot be raised: it is damaged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Decode(#[from] rmp_serde::decode::Error),
    #[error(transparent)]
    Encode(#[from] rmp_serde::encode::Error),
}
