//! The projector against real Postgres and Redis: one database and one Redis a test.

mod management;
mod support;
