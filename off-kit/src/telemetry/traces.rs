//! Traces across requests, messages and processes, and their export.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{Span as _, SpanBuilder, SpanContext, SpanKind, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{IdGenerator, RandomIdGenerator, SdkTracer, SdkTracerProvider},
};
use std::{borrow::Cow, sync::OnceLock, time::Duration};
use tracing::{Dispatch, Span, dispatcher, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Registry, registry::LookupSpan};
use url::Url;

/// Timeout for exporting the last spans at shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The provider of exported spans; unset if spans are not exported.
static EXPORT: OnceLock<SdkTracerProvider> = OnceLock::new();

/// The `traceparent` of a span when spans are not exported.
struct PassedOn(String);

/// The tracer that exports spans to `collector`. The SDK applies `OTEL_TRACES_SAMPLER`.
pub(super) fn tracer(program: &str, collector: &Url) -> anyhow::Result<SdkTracer> {
    // The HTTP client needs a crypto provider even without TLS. An error means that the same one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let endpoint = format!("{}/v1/traces", collector.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).with_endpoint(endpoint);
    let exporter = exporter.build().context("OTEL_EXPORTER_OTLP_ENDPOINT: cannot export traces to this URL")?;
    let resource = Resource::builder().with_service_name(program.to_owned()).build();
    let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let tracer = provider.tracer("off");
    anyhow::ensure!(EXPORT.set(provider).is_ok(), "tracing is already initialized");
    Ok(tracer)
}

/// Whether spans are exported to a collector. Without one, requests and messages pass on their `traceparent` unchanged,
/// and spans that only a collector needs are not created: they would take a fifth of the processor time of an order.
pub fn is_exported() -> bool {
    EXPORT.get().is_some()
}

/// Exports the remaining spans at shutdown; gives up after 3 s when the collector is unavailable.
pub async fn flush() {
    let flushing =
        tokio::task::spawn_blocking(|| EXPORT.get().map(|provider| provider.shutdown_with_timeout(FLUSH_TIMEOUT)));
    if let Ok(Some(Err(error))) = flushing.await {
        warn!("cannot export the last traces: {error}");
    }
}

/// Adds `span` to the trace of `traceparent`, or to a new one, and records the trace id in the `trace_id` field of the
/// span.
pub fn continue_trace(span: &Span, traceparent: Option<&str>) {
    if is_exported() {
        if let Some(traceparent) = traceparent {
            // Fails only for a span that is filtered out, which needs no trace.
            let _ = span.set_parent(parent(traceparent));
        }
        let context = span.context();
        let trace_id = context.span().span_context().trace_id();
        span.record("trace_id", tracing::field::display(trace_id));
        return;
    }
    let valid = traceparent.filter(|traceparent| trace_id(traceparent).is_some());
    let traceparent = valid.map_or_else(new_traceparent, ToOwned::to_owned);
    span.record("trace_id", trace_id(&traceparent));
    span.with_subscriber(|(id, dispatch)| {
        if let Some(span) = dispatch.downcast_ref::<Registry>().and_then(|registry| registry.span(id)) {
            span.extensions_mut().insert(PassedOn(traceparent));
        }
    });
}

/// The `traceparent` header for outgoing requests and messages of the current span; `None` outside of any trace.
pub fn current_traceparent() -> Option<String> {
    if is_exported() {
        let context = Span::current().context();
        let span = context.span();
        return header(span.span_context());
    }
    dispatcher::get_default(passed_on)
}

fn passed_on(dispatch: &Dispatch) -> Option<String> {
    let current = dispatch.current_span();
    let span = dispatch.downcast_ref::<Registry>()?.span(current.id()?)?;
    span.scope().find_map(|span| span.extensions().get::<PassedOn>().map(|passed_on| passed_on.0.clone()))
}

/// The trace id of a valid `traceparent` header: four hexadecimal fields of these lengths, with ids that are not zero
/// (W3C Trace Context, version 00).
pub(crate) fn trace_id(traceparent: &str) -> Option<&str> {
    let fields: Vec<&str> = traceparent.split('-').collect();
    let lengths = [2, 32, 16, 2];
    let is_hex = |field: &str| field.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let is_valid = fields.len() == lengths.len()
        && fields.iter().zip(lengths).all(|(field, length)| field.len() == length && is_hex(field))
        && fields[0] == "00"
        && [fields[1], fields[2]].iter().all(|id| id.bytes().any(|byte| byte != b'0'));
    is_valid.then(|| fields[1])
}

fn new_traceparent() -> String {
    let ids = RandomIdGenerator::default();
    format!("00-{}-{}-01", ids.new_trace_id(), ids.new_span_id())
}

/// Adds a span to the trace of `traceparent`: a message for `subject` was created at `since` and is published now.
/// Returns the `traceparent` for the message.
pub fn record_publish_span<'a>(
    subject: &str,
    since: DateTime<Utc>,
    traceparent: Option<&'a str>,
) -> Option<Cow<'a, str>> {
    let traceparent = traceparent?;
    let Some(provider) = EXPORT.get() else { return Some(traceparent.into()) };
    let span = SpanBuilder::from_name(format!("publish.{subject}"))
        .with_kind(SpanKind::Producer)
        .with_start_time(since)
        .with_attributes([
            KeyValue::new("messaging.system", "nats"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", subject.to_owned()),
        ]);
    let mut span = provider.tracer("off").build_with_context(span, &parent(traceparent));
    span.end();
    header(span.span_context()).map(Into::into)
}

fn parent(traceparent: &str) -> Context {
    TraceContextPropagator::new().extract(&Traceparent(traceparent))
}

fn header(span: &SpanContext) -> Option<String> {
    span.is_valid().then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()))
}

/// A single header as input of the propagator.
struct Traceparent<'a>(&'a str);

impl Extractor for Traceparent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_traceparent_has_a_trace_id() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(trace_id(&format!("00-{trace}-{span}-01")), Some(trace));
        let zeros = "0".repeat(32);
        for invalid in [
            String::new(),
            trace.to_owned(),
            format!("01-{trace}-{span}-01"),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("00-{zeros}-{span}-01"),
            format!("00-{trace}-{}-01", &zeros[..16]),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{span}-\n1"),
        ] {
            assert_eq!(trace_id(&invalid), None, "{invalid}");
        }
        let new = new_traceparent();
        assert!(trace_id(&new).is_some(), "{new}");
    }
}
