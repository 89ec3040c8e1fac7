//! Who is calling: the credential of a request and the key that it belongs to. First step of every pipeline.

pub(crate) mod credential;
