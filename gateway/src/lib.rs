//! The data plane: takes calls with virtual keys, decides on them in memory, passes them on, and records what they cost.
//! The modules in the order in which a call meets them.

pub mod http;
pub mod auth;
pub mod dialect;
pub mod journal;
pub mod provider;
pub mod error;
pub mod telemetry;
pub mod shutdown;
pub mod snapshot;
