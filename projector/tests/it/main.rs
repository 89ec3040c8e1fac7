//! The projector against real Postgres and Redis: one database and one Redis a test.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod generation;
mod grants;
mod management;
mod model;
mod purses;
mod random;
mod rebuild;
mod support;
mod usage;
