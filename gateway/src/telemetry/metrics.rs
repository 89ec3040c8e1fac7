//! All metrics of the request path. Every handle is looked up once, here: a request adds to atomics. Labels are closed
//! sets (routes, provider types, codes), so the number of series is fixed from the start.

use std::time::{Duration, Instant};

use odock_events::{
    payload::{provider::ProviderType, usage::AttemptOutcome},
    pricing::TokenUsage,
};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Opts, Registry, TextEncoder,
};

use crate::error::Code;

/// The routes as labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    ChatCompletions,
    Models,
    ValidateKey,
    Health,
    Ready,
    Healthz,
    Metrics,
    /// Any path that does not exist.
    Other,
}

impl Route {
    pub const ALL: [Self; 8] = [
        Self::ChatCompletions,
        Self::Models,
        Self::ValidateKey,
        Self::Health,
        Self::Ready,
        Self::Healthz,
        Self::Metrics,
        Self::Other,
    ];

    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Models => "/v1/models",
            Self::ValidateKey => "/v1/keys/validate",
            Self::Health => "/v1/health",
            Self::Ready => "/v1/ready",
            Self::Healthz => "/v1/healthz",
            Self::Metrics => "/metrics",
            Self::Other => "other",
        }
    }
}

/// What the budgets said to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetDecision {
    Reserved,
    Denied,
    Unavailable,
}

pub struct Metrics {
    registry: Registry,
    routes: [RouteMetrics; Route::ALL.len()],
    providers: [ProviderMetrics; ProviderType::ALL.len()],
    errors: Vec<IntCounter>,
    in_flight: IntGauge,
    stream_sessions: IntCounter,
    stream_duration: Histogram,
    budget_decisions: [IntCounter; 3],
    tokens: [IntCounter; 5],
    uptime: IntGauge,
    started: Instant,
}

struct RouteMetrics {
    /// By first digit of the status, from 1.
    by_class: [IntCounter; 5],
    duration: Histogram,
}

struct ProviderMetrics {
    requests: IntCounter,
    duration: Histogram,
    /// By outcome; successes and hang-ups are no errors.
    errors: [IntCounter; 3],
}

impl Metrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let make = Maker {
            registry: &registry,
        };
        let requests = make.counters(
            "gateway_requests_total",
            "Answered requests.",
            &["route", "status_class"],
        )?;
        let durations = make.histograms(
            "gateway_request_duration",
            "Seconds until the answer's head was ready.",
            &["route"],
        )?;
        let upstream = make.counters(
            "gateway_provider_requests_total",
            "Calls to providers.",
            &["provider"],
        )?;
        let upstream_durations = make.histograms(
            "gateway_provider_request_duration",
            "Seconds until the provider's answer began.",
            &["provider"],
        )?;
        let upstream_errors = make.counters(
            "gateway_provider_errors_total",
            "Failed calls to providers.",
            &["provider", "error"],
        )?;
        let errors = make.counters(
            "gateway_errors_total",
            "Requests that the gateway refused or failed.",
            &["code"],
        )?;
        let budgets = make.counters(
            "gateway_budget_decisions_total",
            "What budgets said.",
            &["decision"],
        )?;
        let tokens = make.counters("gateway_tokens_total", "Tokens by class.", &["class"])?;
        Ok(Self {
            routes: Route::ALL.map(|route| RouteMetrics {
                by_class: STATUS_CLASSES
                    .map(|class| requests.with_label_values(&[route.path(), class])),
                duration: durations.with_label_values(&[route.path()]),
            }),
            providers: ProviderType::ALL.map(|provider| ProviderMetrics {
                requests: upstream.with_label_values(&[provider.name()]),
                duration: upstream_durations.with_label_values(&[provider.name()]),
                errors: ["upstream_error", "unreachable", "timeout"]
                    .map(|error| upstream_errors.with_label_values(&[provider.name(), error])),
            }),
            errors: Code::ALL
                .iter()
                .map(|code| errors.with_label_values(&[code.name()]))
                .collect(),
            in_flight: make.gauge(
                "gateway_requests_in_flight",
                "Requests whose answer has not begun.",
            )?,
            stream_sessions: make.counter("gateway_stream_sessions_total", "Streamed answers.")?,
            stream_duration: make.histogram(
                "gateway_stream_duration",
                "Seconds from first to last byte of a streamed answer.",
            )?,
            budget_decisions: ["reserved", "denied", "unavailable"]
                .map(|d| budgets.with_label_values(&[d])),
            tokens: ["input", "cached", "cache_write", "output", "reasoning"]
                .map(|c| tokens.with_label_values(&[c])),
            uptime: make.gauge("gateway_process_uptime_seconds", "Seconds since the start.")?,
            started: Instant::now(),
            registry,
        })
    }

    /// Other modules register what is theirs.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        self.uptime.set(self.started.elapsed().as_secs() as i64);
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be rendered");
        }
        text
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(crate) fn enter(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    pub(crate) fn answered(&self, route: Route, status: u16, took: Duration) {
        if let Some(metrics) = self.routes.get(route as usize) {
            let class = usize::from(status / 100)
                .saturating_sub(1)
                .min(metrics.by_class.len() - 1);
            if let Some(counter) = metrics.by_class.get(class) {
                counter.inc();
            }
            metrics.duration.observe(took.as_secs_f64());
        }
    }

    pub(crate) fn refused(&self, code: Code) {
        if let Some(counter) = self.errors.get(code as usize) {
            counter.inc();
        }
    }

    pub(crate) fn called_provider(
        &self,
        provider: ProviderType,
        took: Duration,
        outcome: AttemptOutcome,
    ) {
        let Some(metrics) = self.providers.get(provider as usize) else {
            return;
        };
        metrics.requests.inc();
        metrics.duration.observe(took.as_secs_f64());
        match outcome {
            AttemptOutcome::Success
            | AttemptOutcome::ClientClosed
            | AttemptOutcome::Interrupted => {}
            AttemptOutcome::UpstreamError => metrics.errors[0].inc(),
            AttemptOutcome::Unreachable => metrics.errors[1].inc(),
            AttemptOutcome::Timeout => metrics.errors[2].inc(),
        }
    }

    pub(crate) fn streamed(&self, took: Duration) {
        self.stream_sessions.inc();
        self.stream_duration.observe(took.as_secs_f64());
    }

    pub(crate) fn decided_budget(&self, decision: BudgetDecision) {
        self.budget_decisions[decision as usize].inc();
    }

    pub(crate) fn used_tokens(&self, usage: &TokenUsage) {
        let counts = [
            usage.input,
            usage.cached_input,
            usage.cache_write,
            usage.output,
            usage.reasoning,
        ];
        for (counter, count) in self.tokens.iter().zip(counts) {
            if count > 0 {
                counter.inc_by(count);
            }
        }
    }
}

pub(crate) struct InFlight<'a>(&'a IntGauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let histograms = HistogramVec::new(options, labels)?;
        self.registry.register(Box::new(histograms.clone()))?;
        Ok(histograms)
    }

    fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let histogram =
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()))?;
        self.registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let counter = IntCounter::new(name, help)?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let gauge = IntGauge::new(name, help)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }
}

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_is_counted_under_closed_labels() {
        let metrics = Metrics::new().unwrap();
        let series = |metrics: &Metrics| {
            let text = String::from_utf8(metrics.render()).unwrap();
            text.lines().filter(|line| !line.starts_with('#')).count()
        };
        let before = series(&metrics);
        metrics.answered(Route::ChatCompletions, 200, Duration::from_millis(3));
        metrics.answered(Route::Other, 999, Duration::ZERO);
        metrics.answered(Route::Other, 0, Duration::ZERO);
        metrics.refused(Code::BudgetExceeded);
        metrics.decided_budget(BudgetDecision::Denied);
        metrics.called_provider(
            ProviderType::Custom,
            Duration::ZERO,
            AttemptOutcome::Timeout,
        );
        metrics.used_tokens(&TokenUsage {
            input: 5,
            output: 7,
            ..TokenUsage::default()
        });
        assert_eq!(series(&metrics), before, "no series comes into being later");
        let text = String::from_utf8(metrics.render()).unwrap();
        for line in [
            "gateway_requests_total{route=\"/v1/chat/completions\",status_class=\"2xx\"} 1",
            "gateway_errors_total{code=\"budget_exceeded\"} 1",
            "gateway_budget_decisions_total{decision=\"denied\"} 1",
            "gateway_provider_errors_total{error=\"timeout\",provider=\"custom\"} 1",
            "gateway_tokens_total{class=\"output\"} 7",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_index_is_in_its_table() {
        for (index, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, index);
        }
        for (index, provider) in ProviderType::ALL.into_iter().enumerate() {
            assert_eq!(provider as usize, index);
        }
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(*code as usize, index);
        }
    }
}
