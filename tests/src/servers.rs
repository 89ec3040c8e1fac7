//! Real Postgres and Redis for the tests: one pair for a whole run, where every stack gets a database of its own, or a
//! pair for one test that kills or wipes them. Called by `stack`.

mod postgres;
mod redis;

pub(crate) use self::redis::connect;
pub use self::{postgres::PostgresServer, redis::RedisServer};
