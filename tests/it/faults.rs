//! Networks that delay, cut, reset, close by half or swallow: between a gateway and its stores, between all services and
//! a store, between a gateway and its upstream.

mod stores;
mod upstream;

use std::time::Duration;

use odock_tests::proxy::Fault;

/// All there are.
const FAULTS: [Fault; 5] = [
    Fault::Delay(Duration::from_millis(300)),
    Fault::Stall,
    Fault::Cut,
    Fault::Reset,
    Fault::HalfClose,
];
