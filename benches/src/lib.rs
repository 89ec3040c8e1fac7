//! Measures what Odock costs: its gateway against nginx in front of the same stub, in one run, interleaved, medians of
//! rounds; the whole system per governed request; the projector; the push of configuration. `make bench` runs all.
//!
//! Reading order: [`scenario`] (what is measured), [`targets`] (against what), [`load`], [`stub`], [`stack`],
//! [`process`], [`table`]; [`micro`] is apart: the rules alone.

pub mod load;
pub mod micro;
pub mod process;
pub mod push;
pub mod scenario;
pub mod stack;
pub mod stub;
pub mod table;
pub mod targets;
pub mod throughput;
