//! Logs, traces and metrics.

mod metrics;
mod traces;

pub use self::metrics::{Kind, Metric, describe, render_metrics};
pub(crate) use traces::trace_id;
pub use traces::{continue_trace, current_traceparent, flush, is_exported, record_publish_span};

use anyhow::Context;
use clap::ValueEnum;
use std::{fs::File, io::IsTerminal, path::PathBuf, sync::Arc};
use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, filter_fn},
    layer::{Identity, SubscriberExt},
    util::SubscriberInitExt,
};
use url::Url;

/// Settings of logs and traces.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The log filter: a level, or levels by target, like `info,off_kit::bus=debug`. Some libraries log warnings only,
    /// unless the filter names them: async_nats, sqlx, tokio_cron_scheduler.
    #[arg(long, env = "OFF_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// The log format. By default pretty for a terminal, and JSON otherwise.
    #[arg(long, env = "OFF_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<Format>,
    /// Writes logs to this file instead of standard error.
    #[arg(long, env = "OFF_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// The collector that receives traces by OTLP over HTTP, like http://tempo:4318; without it no traces are exported.
    /// OTEL_TRACES_SAMPLER sets the sampling.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<Url>,
}

impl Config {
    /// Logs to `file`, or to standard error without one. The format is JSON unless the output is a terminal.
    pub fn new(filter: &str, file: Option<PathBuf>) -> Self {
        Self { log: filter.to_owned(), log_format: None, log_file: file, otlp_endpoint: None }
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Pretty,
}

/// Libraries whose `info` lines are of no interest to operators.
const QUIET_LIBRARIES: &str = "async_nats=warn,sqlx=warn,tokio_cron_scheduler=warn";

/// Initializes logs, traces and metrics of the process, with `program` as the service name in traces. Call it once,
/// first.
///
/// # Errors
/// A setting is invalid, the log file cannot be opened, or telemetry is already initialized.
pub fn init(program: &str, config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET_LIBRARIES},{}", config.log))
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
    let exported = config.otlp_endpoint.as_ref().map(|collector| traces::tracer(program, collector)).transpose()?;
    // Spans are exported independently of the log filter.
    let exported = exported.map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(LevelFilter::INFO)
    });
    let passed_on = exported.is_none().then(|| {
        let is_of_trace = |span: &Metadata<'_>| span.is_span() && span.fields().field("trace_id").is_some();
        Identity::new().with_filter(filter_fn(is_of_trace))
    });
    tracing_subscriber::registry()
        .with(exported)
        .with(passed_on)
        .with(output.with_filter(filter))
        .try_init()
        .context("logging is already initialized")?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    metrics::handle().map(drop)
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
