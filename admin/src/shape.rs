//! Bodies on the wire, one resource a file: what a request may say and what an answer shows. Only types and how rows
//! become them; rules are in `domain`.

pub(crate) mod budget;
pub(crate) mod catalogue;
pub(crate) mod grant;
pub(crate) mod key;
pub(crate) mod membership;
pub(crate) mod model;
pub(crate) mod organisation;
pub(crate) mod overlay;
pub(crate) mod provider;
pub(crate) mod provider_key;
pub(crate) mod quota;
pub(crate) mod rule;
pub(crate) mod team;
pub(crate) mod user;
pub(crate) mod views;
