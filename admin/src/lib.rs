//! The management API: resources, rules and the price catalogue. `odock admin` runs it.
//!
//! Reading order: [`router`] (every route with its permission), [`call`] (what a request passes before its handler),
//! [`routes::crud`] (the handlers that entities share), [`command`] (load, decide, append, wait), [`domain`] (the rules),
//! [`queries`] (the statements).
//!
//! How to add an endpoint: its types in `shape/`, its rule in `domain/`, its statements in `queries/`, a thin handler in
//! `routes/`, a line in `router/table.rs`; then review the snapshot of the `OpenAPI` document.

mod app;
mod auth;
mod body;
mod call;
pub mod catalogue;
mod command;
mod config;
mod domain;
mod error;
mod idempotency;
mod openapi;
mod page;
mod person;
mod queries;
mod receipt;
mod reply;
mod router;
mod routes;
mod server;
mod shape;
mod startup;

pub use self::{
    config::{Config, SETTINGS},
    startup::run,
};
