//! What must never be written down, and what holds whatever the bytes are.

mod replay;
mod secrets;
