//! Dialects: what a body or a stream in a provider's language says, and the few bytes of it that the gateway changes.
//!
//! Pure functions over bytes: no I/O, no clock, no panic on any input. The pipeline's decode step calls the request
//! side, its encode step the answer and stream side. What is not changed is handed on as the same bytes.

pub mod json_keys;
pub mod json_scan;
pub mod json_write;
pub mod openai_chat;
pub mod sse;
#[cfg(test)]
mod testdata;
mod text_length;
