//! Spans for a collector, by OTLP over HTTP: off unless configured, and then one relaxed load a step. `startup` or the
//! binary installs [`layer`]; `pipeline` makes the spans.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use http::{HeaderMap, HeaderName};
use opentelemetry::{
    Context, KeyValue,
    trace::{
        SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        TracerProvider as _,
    },
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{Sampler, SdkTracerProvider, SpanData},
};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use crate::config::OtlpSettings;

/// The target of every span of the request path; logs never have it.
pub const TARGET: &str = "odock_gateway::trace";

static WANTED: AtomicBool = AtomicBool::new(false);

/// Whether a collector is attached.
#[must_use]
pub fn are_wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}

/// Sends what is left when it is dropped.
pub struct Exporting {
    provider: SdkTracerProvider,
}

impl Exporting {
    /// Sends what is left. Blocks: not for a task.
    pub fn finish(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_BATCH) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// The layer that turns spans of [`TARGET`] into OTLP. Must be called within the runtime that will send them.
pub fn layer<S>(settings: &OtlpSettings) -> anyhow::Result<(impl Layer<S>, Exporting)>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let endpoint = format!("{}/v1/traces", settings.endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .build()
        .context("OBSERVABILITY_OTEL_ENDPOINT is not usable")?;
    let exporter = OnRuntime {
        inner: Arc::new(exporter),
        runtime: tokio::runtime::Handle::current(),
    };
    let sampler = Sampler::TraceIdRatioBased(settings.sample_rate);
    let resource = Resource::builder()
        .with_service_name(settings.service_name.clone())
        .with_attribute(KeyValue::new("service.namespace", "odock"))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_resource(resource)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("odock-gateway"))
        .with_filter(filter_fn(|metadata| metadata.target() == TARGET));
    WANTED.store(true, Ordering::Relaxed);
    Ok((layer, Exporting { provider }))
}

/// The span of a whole request, child of the caller's if it names one.
pub(crate) fn request_span(route: &'static str, headers: &HeaderMap) -> tracing::Span {
    if !are_wanted() {
        return tracing::Span::none();
    }
    let span = tracing::info_span!(
        target: "odock_gateway::trace", "request", otel.name = "http.request", gateway.route = route
    );
    if let Some(parent) = parent_of(headers).and_then(context_of) {
        let _ = span.set_parent(parent);
    }
    span
}

/// The span of one step of the pipeline.
pub(crate) fn step_span(step: &'static str) -> tracing::Span {
    if !are_wanted() {
        return tracing::Span::none();
    }
    tracing::info_span!(target: "odock_gateway::trace", "step", otel.name = step)
}

/// The span of one of the gates, of which there are several with one name.
pub(crate) fn gate_span(stage: &'static str) -> tracing::Span {
    if !are_wanted() {
        return tracing::Span::none();
    }
    tracing::info_span!(
        target: "odock_gateway::trace", "step", otel.name = "gateway.ratelimit.evaluate",
        gateway.stage = stage
    )
}

/// The span that is entered now, kept for what ends after its steps.
pub(crate) fn current() -> tracing::Span {
    if are_wanted() {
        tracing::Span::current()
    } else {
        tracing::Span::none()
    }
}

/// The span of a call's record, which may be made long after the answer began.
pub(crate) fn record_span(request: &tracing::Span) -> tracing::Span {
    if !are_wanted() {
        return tracing::Span::none();
    }
    tracing::info_span!(
        target: "odock_gateway::trace", parent: request, "step", otel.name = "gateway.usage.collect"
    )
}

/// A valid `traceparent` of the caller.
pub(crate) fn parent_of(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(&TRACEPARENT)?.to_str().ok()?;
    let [version, trace, span, flags] = split(text)?;
    let lower_hex = |part: &str| {
        part.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let shaped = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    let valid = shaped
        && version == "00"
        && [trace, span, flags].into_iter().all(lower_hex)
        && !zero(trace)
        && !zero(span);
    valid.then_some(text)
}

/// The trace id of a valid `traceparent`.
pub(crate) fn trace_id(traceparent: &str) -> &str {
    traceparent.get(3..35).unwrap_or_default()
}

fn split(text: &str) -> Option<[&str; 4]> {
    let mut parts = text.split('-');
    let four = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(four)
}

fn context_of(traceparent: &str) -> Option<Context> {
    let [_, trace, span, flags] = split(traceparent)?;
    let parent = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    Some(Context::new().with_remote_span_context(parent))
}

/// The batch processor exports from a thread of its own; the HTTP client needs the runtime.
#[derive(Debug)]
struct OnRuntime {
    inner: Arc<SpanExporter>,
    runtime: tokio::runtime::Handle,
}

impl opentelemetry_sdk::trace::SpanExporter for OnRuntime {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let inner = Arc::clone(&self.inner);
        // Ended by the exporter's own time-out; whoever waits for it is the batch thread.
        let sending = self.runtime.spawn(async move { inner.export(batch).await });
        async move {
            sending
                .await
                .unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())))
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.set_resource(resource);
        }
    }
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const LAST_BATCH: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_valid_parents_are_followed() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (text, valid) in [
            (format!("00-{trace}-00f067aa0ba902b7-01"), true),
            (format!("01-{trace}-00f067aa0ba902b7-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false),
            (
                format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
                false,
            ),
            (format!("00-{trace}-00f067aa0ba902b7-01-x"), false),
            ("00".to_owned(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_str(&text).unwrap());
            let parent = parent_of(&headers);
            assert_eq!(parent.is_some(), valid, "{text}");
            if let Some(parent) = parent {
                assert_eq!(trace_id(parent), trace);
                assert!(
                    context_of(parent)
                        .unwrap()
                        .span()
                        .span_context()
                        .is_remote()
                );
            }
        }
    }
}
