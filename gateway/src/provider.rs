//! Upstreams: the pooled client, the rule on addresses, and what a call to one may end in. Used by
//! `pipeline` for every attempt.

pub mod address;
pub mod client;
pub mod connector;
pub(crate) mod headers;
pub mod targets;
