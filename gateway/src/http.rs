//! The gateway's own edge: sockets, HTTP, routes. What happens to a call is in `pipeline`.

pub mod body;
pub mod connection;
pub(crate) mod early_answer;
pub mod framing;
pub mod guarded_io;
pub(crate) mod health;
pub mod inbound;
pub(crate) mod json;
pub(crate) mod keys;
pub(crate) mod models;
pub(crate) mod request_id;
pub(crate) mod router;
pub mod server;
pub(crate) mod tls;
pub(crate) mod unread;
