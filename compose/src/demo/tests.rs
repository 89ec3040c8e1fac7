//! Tests of the demo upstream over real sockets, in this process: every model, every rule, every setting.

mod calls;
mod client;
mod disconnects;
mod faults;
