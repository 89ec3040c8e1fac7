//! The tables, one a file. Every function takes the transaction's connection and stores what it is given: the tasks
//! and the rebuild call the same ones, so that live and rebuilt tables cannot differ by how they are written.

pub(crate) mod api_key_rotation;
pub(crate) mod boundary;
pub(crate) mod command;
pub(crate) mod config_delta;
pub(crate) mod dead_letter;
pub(crate) mod entity;
pub(crate) mod event;
pub(crate) mod event_log;
pub(crate) mod gateway;
pub(crate) mod money;
pub(crate) mod price_version;
pub(crate) mod rollup;
pub(crate) mod usage;
pub(crate) mod usage_batch;
