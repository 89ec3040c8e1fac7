//! The management API: resources, rules and the price catalogue. `odock admin` runs it.
//!
//! Reading order: [`router`] (every route with its permission), [`call`] (what a request passes before its handler),
//! [`routes::crud`] (the handlers that entities share), [`command`] (load, decide, append, wait), [`domain`] (the rules),
//! [`queries`] (the statements).
//!
//! How to add an endpoint: its types in `shape/`, its rule in `domain/`, its statements in `queries/`, a thin handler in
//! `routes/`, a line in `router/table.rs`; then review the snapshot of the OpenAPI document.

pub mod catalogue;
mod config;
mod startup;
mod app;
mod server;
mod router;
mod auth;
mod call;
mod body;
mod page;
mod reply;
mod error;
mod routes;
mod shape;
mod person;
mod command;
mod idempotency;
mod receipt;
mod domain;
mod queries;
mod openapi;

pub use self::{
    config::{Config, SETTINGS},
    startup::run,
};
