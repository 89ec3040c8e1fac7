//! The gateway from outside: calls, answers, errors, health.

mod bytes;
mod calls;
mod credentials;
pub(crate) mod health;
mod hostile;
mod refusals;
mod spans;
mod streams;
mod tls;
