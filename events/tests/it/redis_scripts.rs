//! The log client and its scripts on real Redis servers, one server a test.

mod chaos;
mod config_and_messages;
mod generation;
mod limits;
mod management;
mod outages;
mod server;
mod usage;
