//! The streams in Redis: keys, scripts, and the small messages beside them. Redis orders and fans out; what must last
//! is in Postgres or in a gateway's journal.

pub mod keys;
pub mod memory;
pub mod messages;
pub mod reader;
pub mod redis;
