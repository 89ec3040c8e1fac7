//! What the gateway tells about itself: metrics for Prometheus. Logs go through `tracing` where
//! something happens.

pub mod metrics;
