//! Traces: what belongs together across requests, messages and processes, and where that is sent.

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

/// How long the last spans may take to be sent when the process ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// Where spans go; only there when they go anywhere.
static EXPORT: OnceLock<SdkTracerProvider> = OnceLock::new();

/// The `traceparent` of a span, where spans are not exported.
struct Passed(String);

/// What makes spans and sends them to `collector`. Which are sent is the SDK's to say, by `OTEL_TRACES_SAMPLER`.
pub(super) fn tracer(program: &str, collector: &Url) -> anyhow::Result<SdkTracer> {
    // The client wants one even where it encrypts nothing; whoever was first chose the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let endpoint = format!("{}/v1/traces", collector.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).with_endpoint(endpoint);
    let exporter = exporter.build().context("OTEL_EXPORTER_OTLP_ENDPOINT: traces cannot be sent there")?;
    let resource = Resource::builder().with_service_name(program.to_owned()).build();
    let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let tracer = provider.tracer("off");
    anyhow::ensure!(EXPORT.set(provider).is_ok(), "tracing was started twice");
    Ok(tracer)
}

/// Whether spans are sent to a collector. Without one, requests and messages pass their `traceparent` on as it is, and the spans
/// that only a collector would see are not made: they would take a fifth of an order's processor time.
pub fn is_exported() -> bool {
    EXPORT.get().is_some()
}

/// Sends the spans that were not sent yet; gives up when the collector is away.
pub async fn flush() {
    let flushing =
        tokio::task::spawn_blocking(|| EXPORT.get().map(|provider| provider.shutdown_with_timeout(FLUSH_WITHIN)));
    if let Ok(Some(Err(error))) = flushing.await {
        warn!("the last traces were not sent: {error}");
    }
}

/// Makes `span` a part of the trace that `said` speaks of, or of a new one, and notes the trace's id in the span's `trace_id`
/// field.
pub fn continue_trace(span: &Span, said: Option<&str>) {
    if is_exported() {
        if let Some(traceparent) = said {
            // Fails only for a span that is filtered out, which then has no trace to belong to.
            let _ = span.set_parent(parent(traceparent));
        }
        let context = span.context();
        let trace_id = context.span().span_context().trace_id();
        span.record("trace_id", tracing::field::display(trace_id));
        return;
    }
    let passed = said.filter(|said| trace_id(said).is_some()).map_or_else(new_traceparent, ToOwned::to_owned);
    span.record("trace_id", trace_id(&passed));
    span.with_subscriber(|(id, dispatch)| {
        if let Some(span) = dispatch.downcast_ref::<Registry>().and_then(|registry| registry.span(id)) {
            span.extensions_mut().insert(Passed(passed));
        }
    });
}

/// The `traceparent` header for what follows from the current span; `None` outside any trace.
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
    span.scope().find_map(|span| span.extensions().get::<Passed>().map(|passed| passed.0.clone()))
}

/// The trace's id in a `traceparent` header, if that is one: four hexadecimal fields of these lengths, the ids not zero
/// (W3C Trace Context, version 00).
pub(crate) fn trace_id(traceparent: &str) -> Option<&str> {
    let fields: Vec<&str> = traceparent.split('-').collect();
    let lengths = [2, 32, 16, 2];
    let is_hex = |field: &str| field.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let is_sound = fields.len() == lengths.len()
        && fields.iter().zip(lengths).all(|(field, length)| field.len() == length && is_hex(field))
        && fields[0] == "00"
        && [fields[1], fields[2]].iter().all(|id| id.bytes().any(|byte| byte != b'0'));
    is_sound.then(|| fields[1])
}

fn new_traceparent() -> String {
    let ids = RandomIdGenerator::default();
    format!("00-{}-{}-01", ids.new_trace_id(), ids.new_span_id())
}

/// Notes in the trace of `traceparent` that a message for `subject` has waited since `since` and is published now; returns the
/// `traceparent` for what follows from it.
pub fn published<'a>(subject: &str, since: DateTime<Utc>, traceparent: Option<&'a str>) -> Option<Cow<'a, str>> {
    let said = traceparent?;
    let Some(provider) = EXPORT.get() else { return Some(said.into()) };
    let span = SpanBuilder::from_name(format!("publish.{subject}"))
        .with_kind(SpanKind::Producer)
        .with_start_time(since)
        .with_attributes([
            KeyValue::new("messaging.system", "nats"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", subject.to_owned()),
        ]);
    let mut span = provider.tracer("off").build_with_context(span, &parent(said));
    span.end();
    header(span.span_context()).map(Into::into)
}

fn parent(traceparent: &str) -> Context {
    TraceContextPropagator::new().extract(&Traceparent(traceparent))
}

fn header(span: &SpanContext) -> Option<String> {
    span.is_valid().then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()))
}

/// A single header, in the form the propagator reads.
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
    fn only_a_sound_traceparent_has_a_trace() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(trace_id(&format!("00-{trace}-{span}-01")), Some(trace));
        let zeros = "0".repeat(32);
        for unsound in [
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
            assert_eq!(trace_id(&unsound), None, "{unsound}");
        }
        let new = new_traceparent();
        assert!(trace_id(&new).is_some(), "{new}");
    }
}
