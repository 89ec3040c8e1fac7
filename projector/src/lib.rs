//! The projector: it turns the streams into tables, decides lease grants, and pushes configuration. `odock projector`
//! runs it; several may run, one of them is active.
//!
//! Reading order: [`leadership`] (who is active), [`term`] (what the active one runs), [`tasks`] (one transaction a
//! batch, locks in the order of the design), [`projections`] (one table a file), [`relay`] and [`heartbeat`] (what
//! gateways and admins follow), [`generation`] (when Redis or Postgres is not what it was), [`rebuild`] and [`check`]
//! (that the tables are what the log says).
//!
//! How to add a projection: a file in `projections/`, a call of it from the task whose events it shows, beside the
//! others and after `log_head`; the table in `create_derived_tables()`; its name in [`digest`].

pub mod check;
mod checkpoint;
pub mod config;
mod copy;
mod digest;
mod error;
mod generation;
mod head;
mod heartbeat;
mod lag;
mod leadership;
mod live;
mod projections;
mod ready;
pub mod rebuild;
mod relay;
mod tasks;
mod term;
mod windows;

pub use self::{
    config::{Config, SETTINGS},
    digest::Digest,
    error::{ProjectorError, WentBack},
    leadership::run,
};
