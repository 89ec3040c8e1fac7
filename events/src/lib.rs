//! The facts and the pure rules of Odock: what an event is, what state follows from events, how money moves.
//! Depends on none of the other crates; gateway, projector and admin meet only in what is defined here.
//!
//! Reading order: [`kind`] (every fact there is), [`envelope`] and [`codec`] (how it is stored), [`payload`] (what it
//! says), [`state`] (what follows from management events), [`ledger`] (what follows for money), [`log`] (the streams).
//!
//! How to add an event: a payload struct in `payload/<family>.rs`; a line in [`kind`]; the arms that the compiler then
//! asks for ([`state::fold`], [`ledger`], [`examples`]); `UPDATE_GOLDENS=1 cargo test -p odock-events goldens`; a line
//! in docs/EVENTS.md. A released payload is never edited: see [`upcast`].

pub mod clock;
pub mod codec;
pub mod envelope;
pub mod examples;
pub mod ids;
pub mod kind;
pub mod ledger;
pub mod log;
pub mod payload;
pub mod personal;
pub mod policy;
pub mod pricing;
pub mod seal;
pub mod secret_key;
pub mod settings;
pub mod state;
pub mod units;
pub mod upcast;
