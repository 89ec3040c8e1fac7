//! Handlers, one resource a file. [`crud`] has the five that every entity shares; the rest are thin: read, run, answer.

pub(crate) mod budget;
pub(crate) mod catalogue;
pub(crate) mod command;
pub(crate) mod crud;
pub(crate) mod event;
pub(crate) mod explanation;
pub(crate) mod grant;
pub(crate) mod key;
pub(crate) mod membership;
pub(crate) mod model;
pub(crate) mod organisation;
pub(crate) mod overlay;
pub(crate) mod probe;
pub(crate) mod provider;
pub(crate) mod provider_key;
pub(crate) mod quota;
pub(crate) mod reclaim;
pub(crate) mod rule;
pub(crate) mod status;
pub(crate) mod team;
pub(crate) mod usage;
pub(crate) mod user;
