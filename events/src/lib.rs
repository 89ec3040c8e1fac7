//! The facts and the pure rules of Odock: what an event is, what state follows from events, how money moves.
//! Depends on none of the other crates; gateway, projector and admin meet only in what is defined here.
//!
//! Reading order: [`kind`] (every fact there is), [`envelope`] and [`codec`] (how it is stored), [`payload`] (what it
//! says), [`state`] (what follows from management events), [`ledger`] (what follows for money), [`log`] (the streams).
//!
//! How to add an event: a payload struct in `payload/<family>.rs`; a line in [`kind`]; the arms that the compiler then
//! asks for ([`state::fold`], [`ledger`], [`examples`]); `UPDATE_GOLDENS=1 cargo test -p odock-events goldens`; a line
//! in docs/EVENTS.md. A released payload is never edited: see [`upcast`].

pub mod ids;
pub mod units;
pub mod clock;
pub mod kind;
pub mod envelope;
pub mod codec;
pub mod upcast;
pub mod payload;
pub mod personal;
pub mod pricing;
pub mod seal;
pub mod secret_key;
pub mod state;
pub mod ledger;
pub mod log;
pub mod settings;
pub mod examples;
