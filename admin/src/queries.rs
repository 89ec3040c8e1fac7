//! Statements, one table a file, static text. Reads are bounded; what is written here are private tables only.

pub(crate) mod account;
pub(crate) mod boundary;
pub(crate) mod command;
pub(crate) mod entity;
pub(crate) mod event;
pub(crate) mod event_log;
pub(crate) mod gateway;
pub(crate) mod history;
pub(crate) mod idempotency;
pub(crate) mod private;
pub(crate) mod references;
pub(crate) mod rollup;
pub(crate) mod rotation;
pub(crate) mod status;
pub(crate) mod usage;
