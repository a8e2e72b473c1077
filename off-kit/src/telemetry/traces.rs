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
    trace::{SdkTracer, SdkTracerProvider},
};
use std::{sync::OnceLock, time::Duration};
use tracing::{Span, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use url::Url;

/// How long the last spans may take to be sent when the process ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// Where spans go; only there when they go anywhere.
static EXPORT: OnceLock<SdkTracerProvider> = OnceLock::new();

/// What makes spans, which are sent to `collector` if there is one. Which are is the SDK's to say, by
/// `OTEL_TRACES_SAMPLER`; every request and message has its trace id all the same.
pub(super) fn tracer(program: &str, collector: Option<&Url>) -> anyhow::Result<SdkTracer> {
    let builder =
        SdkTracerProvider::builder().with_resource(Resource::builder().with_service_name(program.to_owned()).build());
    let Some(collector) = collector else { return Ok(builder.build().tracer("off")) };
    // The client wants one even where it encrypts nothing; whoever was first chose the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let endpoint = format!("{}/v1/traces", collector.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).with_endpoint(endpoint);
    let exporter = exporter.build().context("OTEL_EXPORTER_OTLP_ENDPOINT: traces cannot be sent there")?;
    let provider = builder.with_batch_exporter(exporter).build();
    let tracer = provider.tracer("off");
    anyhow::ensure!(EXPORT.set(provider).is_ok(), "tracing was started twice");
    Ok(tracer)
}

/// Sends the spans that were not sent yet; gives up when the collector is away.
pub async fn flush() {
    let flushing =
        tokio::task::spawn_blocking(|| EXPORT.get().map(|provider| provider.shutdown_with_timeout(FLUSH_WITHIN)));
    if let Ok(Some(Err(error))) = flushing.await {
        warn!("the last traces were not sent: {error}");
    }
}

/// Makes `span` a part of the trace that `traceparent` speaks of, or of a new one, and notes the trace's id in the
/// span's `trace_id` field.
pub fn continue_trace(span: &Span, traceparent: Option<&str>) {
    if let Some(traceparent) = traceparent {
        // Fails only for a span that is filtered out, which then has no trace to belong to.
        let _ = span.set_parent(parent(traceparent));
    }
    let context = span.context();
    let trace_id = context.span().span_context().trace_id();
    span.record("trace_id", tracing::field::display(trace_id));
}

/// The `traceparent` header for what follows from the current span; `None` outside any trace.
pub fn current_traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    traceparent(span.span_context())
}

/// Notes in the trace of `traceparent` that a message for `subject` has waited in the outbox since `since` and goes out
/// now; returns the `traceparent` for what follows from it.
pub fn carried(subject: &str, since: DateTime<Utc>, said: Option<String>) -> Option<String> {
    let (Some(provider), Some(parent)) = (EXPORT.get(), said.as_deref().map(parent)) else { return said };
    let span = SpanBuilder::from_name(format!("outbox.{subject}"))
        .with_kind(SpanKind::Producer)
        .with_start_time(since)
        .with_attributes([
            KeyValue::new("messaging.system", "nats"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", subject.to_owned()),
        ]);
    let mut span = provider.tracer("off").build_with_context(span, &parent);
    span.end();
    traceparent(span.span_context())
}

fn parent(traceparent: &str) -> Context {
    TraceContextPropagator::new().extract(&Traceparent(traceparent))
}

fn traceparent(span: &SpanContext) -> Option<String> {
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
