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
    (schema..kind.schema()).try_fold(payload, |payload, from| step(kind, from, payload))
}

fn step(kind: Kind, from: u16, payload: Vec<u8>) -> Result<Vec<u8>, Error> {
    match (kind, from) {
        (Kind::ModelCreated | Kind::ModelUpdated, 1) => model::to_2(&payload),
        (Kind::UsageFinished, 1) => usage::to_2(&payload),
        // Accounts may be a quota's, or one of many of their rule; they and budgets gained members that may be missing. What
        // the schema before could say is said in the same way.
        (
            Kind::BudgetCreated
            | Kind::BudgetUpdated
            | Kind::LeaseReturned
            | Kind::LeaseStated
            | Kind::LeaseGranted
            | Kind::WindowClosed
            | Kind::BudgetBreached,
            1,
        )
        | (Kind::UsageFinished, 2) => Ok(payload),
        _ => Err(Error::NoStep { kind, from }),
    }
}

/// Why a payload cannot be raised: it is damaged, or this version has lost a step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Decode(#[from] rmp_serde::decode::Error),
    #[error(transparent)]
    Encode(#[from] rmp_serde::encode::Error),
    #[error("no step leads from schema {from} of {}", .kind.name())]
    NoStep { kind: Kind, from: u16 },
}
