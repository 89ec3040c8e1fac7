//! The gateway's own edge: sockets, HTTP, routes. What happens to a call is in `pipeline`.

pub mod body;
pub mod connection;
pub(crate) mod early_answer;
pub mod framing;
pub mod guarded_io;
pub mod inbound;
pub(crate) mod request_id;
pub mod server;
pub(crate) mod tls;
