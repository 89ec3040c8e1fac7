//! The gateway from outside: calls, answers, errors, health.

mod bytes;
mod calls;
mod credentials;
mod crowds;
pub(crate) mod health;
mod hostile;
mod http2;
mod refusals;
mod spans;
mod streams;
mod tls;
