//! The harness of the end-to-end tests: starts the real `odock` binary with real stores and gives typed clients to it.
//! Used by `tests/it` and by whatever else must see the whole.
//!
//! A test takes a [`stack::Stack`]: `Stack::shared()` when it only needs a tenant of its own, `Stack::builder()` when it
//! kills, cuts or wipes something. Nothing here has a fixed port, a fixed file or a fixed delay: waits are [`wait`]'s.

pub mod accounting;
pub mod client;
pub mod collector;
pub mod invariants;
pub mod keeper;
pub mod place;
pub mod proxy;
pub mod servers;
pub mod stack;
pub mod tenant;
pub mod tls;
pub mod wait;

pub use stack::Stack;
pub use tenant::Tenant;
