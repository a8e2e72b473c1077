//! Logs, traces and metrics.

use anyhow::Context as _;
use clap::ValueEnum;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use std::{
    fs::File,
    io::IsTerminal,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// How logs are written.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// What is logged: a level, or levels by target, like `info,off_kit::bus=debug`.
    #[arg(long, env = "OFF_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// One JSON object a line for machines, or lines for people; by default whichever fits standard error.
    #[arg(long, env = "OFF_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<Format>,
    /// Writes logs to this file instead of standard error.
    #[arg(long, env = "OFF_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Json,
    Pretty,
}

/// Seconds from a microsecond-fast answer to one that timed out.
const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How often samples are summed up.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts logging, tracing and counting for the whole process; once, before anything else.
pub fn init(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("OFF_LOG: '{}' is not a log filter; try info or off_kit=debug", config.log))?;
    let format = config.log_format.unwrap_or_else(|| {
        if config.log_file.is_none() && std::io::stderr().is_terminal() { Format::Pretty } else { Format::Json }
    });
    let output = match (&config.log_file, format) {
        (Some(path), format) => {
            let file = File::options().create(true).append(true).open(path);
            let file = file.with_context(|| format!("OFF_LOG_FILE: cannot write to {}", path.display()))?;
            lines(format, Arc::new(file), false)
        }
        (None, format) => lines(format, std::io::stderr, std::io::stderr().is_terminal()),
    };
    // Nothing is exported yet; the provider gives every request and message its trace id.
    let tracer = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).build().tracer("off");
    tracing_subscriber::registry()
        // A request belongs to its trace whatever is logged of it.
        .with(
            tracing_opentelemetry::layer()
                .with_tracer(tracer)
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_filter(LevelFilter::INFO),
        )
        .with(output.with_filter(filter))
        .try_init()
        .context("logging was started twice")?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    metrics_handle().map(drop)
}

fn lines<S, W>(format: Format, writer: W, ansi: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    match format {
        Format::Json => layer.json().flatten_event(true).boxed(),
        Format::Pretty => layer.compact().boxed(),
    }
}

/// The process's metrics; the recorder is installed at the first call.
fn metrics_handle() -> anyhow::Result<&'static PrometheusHandle> {
    if let Some(handle) = METRICS.get() {
        return Ok(handle);
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)
        .context("the buckets of a histogram are wrong")?
        .install_recorder()
        .context("metrics were started twice")?;
    describe_metrics();
    // Samples are kept one by one until someone asks, or until this sums them up.
    let upkeep = handle.clone();
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(UPKEEP_EVERY);
                upkeep.run_upkeep();
            }
        })
        .context("cannot start a thread")?;
    Ok(METRICS.get_or_init(|| handle))
}

/// What each metric counts, in one place; each is recorded where the thing happens.
fn describe_metrics() {
    describe_histogram!("off_http_request_duration_seconds", Unit::Seconds, "Time to answer a request");
    describe_gauge!("off_http_connections", "Open connections");
    describe_counter!("off_http_turned_away_total", "Requests turned away because there was no room for more");
    describe_histogram!("off_order_commit_seconds", Unit::Seconds, "Time to commit a batch of orders");
    describe_histogram!("off_order_batch_size", "Orders that shared one transaction");
    describe_histogram!(
        "off_order_wait_seconds",
        Unit::Seconds,
        "Longest wait of a batch for the transaction before it"
    );
    describe_gauge!("off_orders_waiting", "Orders that wait for the next transaction");
    describe_histogram!("off_outbox_batch_size", "Messages a relay took from the outbox at once");
    describe_histogram!("off_outbox_publish_seconds", Unit::Seconds, "Time until all of a batch were acknowledged");
    describe_gauge!("off_outbox_in_flight", "Messages published and not acknowledged yet");
    describe_counter!("off_outbox_published_total", "Messages carried from the outbox to the bus");
    describe_gauge!("off_outbox_lag_seconds", Unit::Seconds, "Age of the oldest message in the outbox");
    describe_histogram!("off_message_batch_size", "Messages a consumer handled at once");
    describe_histogram!("off_message_batch_seconds", Unit::Seconds, "Time to handle a batch");
    describe_gauge!("off_messages_in_hand", "Messages that are being handled");
    describe_counter!("off_messages_handled_total", "Messages handled and acknowledged");
    describe_counter!("off_messages_dead_total", "Messages put among the dead letters");
    describe_counter!("off_order_looks_total", "Looks for orders that had come to a halt, by outcome");
    describe_counter!("off_orders_announced_again_total", "Orders that had come to a halt and were announced again");
    describe_counter!("off_shelves_reminded_total", "Shelves that stayed low and were spoken of again");
    describe_counter!("off_generator_events_total", "What the generator sent, by outcome");
    describe_histogram!("off_generator_event_duration_seconds", Unit::Seconds, "Time until what it sent was answered");
}

/// All metrics of the process in Prometheus' text form; empty before [`init`].
pub fn render_metrics() -> String {
    METRICS.get().map_or_else(String::new, |handle| {
        handle.run_upkeep();
        handle.render()
    })
}

/// Makes `span` a part of the trace that `traceparent` speaks of, or of a new one, and notes the trace's id in the
/// span's `trace_id` field.
pub fn continue_trace(span: &Span, traceparent: Option<&str>) {
    if let Some(traceparent) = traceparent {
        let context = TraceContextPropagator::new().extract(&Traceparent(traceparent));
        // Fails only for a span that is filtered out, which then has no trace to belong to.
        let _ = span.set_parent(context);
    }
    let context = span.context();
    let trace_id = context.span().span_context().trace_id();
    span.record("trace_id", tracing::field::display(trace_id));
}

/// The `traceparent` header for what follows from the current span; `None` outside any trace.
pub fn current_traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
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
