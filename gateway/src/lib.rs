//! The data plane: takes calls with virtual keys, decides on them in memory, passes them on, and records what they cost.
//! The modules in the order in which a call meets them.

pub mod auth;
pub mod config;
pub mod dialect;
pub mod error;
pub mod http;
pub mod journal;
pub mod limits;
pub mod money;
pub mod pipeline;
pub mod provider;
pub mod response;
pub mod shutdown;
pub mod snapshot;
pub mod startup;
pub mod state;
pub mod telemetry;
pub mod usage;

pub use self::{
    config::{Config, SETTINGS},
    startup::run,
};
