//! OpenAI's chat completions: the request that comes in, the answer or stream that goes back. Most upstreams speak it.

pub mod answer;
pub mod bound;
mod output;
pub mod request;
pub mod stream;
pub mod usage;
