//! What the gateway tells about itself: metrics for Prometheus, spans for a collector. Logs go through `tracing` where
//! something happens.

pub mod metrics;
pub mod traces;
