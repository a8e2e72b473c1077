//! Metrics: their definitions, the recorder and the Prometheus output.

use anyhow::Context;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{sync::OnceLock, time::Duration};

/// Histogram buckets in seconds for durations, up to a timeout.
const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Histogram buckets in seconds for ages, which the simulated waits make long.
const AGE_BUCKETS: [f64; 14] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// The definition of a metric. Each part of the system declares the metrics that it records.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Its name in Prometheus. A name that ends with `_seconds` has that unit.
    pub name: &'static str,
    /// What it measures, for Prometheus.
    pub description: &'static str,
}

impl Metric {
    /// A value that only increases; its name ends with `_total`.
    pub const fn counter(name: &'static str, description: &'static str) -> Self {
        Self { kind: Kind::Counter, name, description }
    }

    /// A value that increases and decreases.
    pub const fn gauge(name: &'static str, description: &'static str) -> Self {
        Self { kind: Kind::Gauge, name, description }
    }

    /// A distribution of values.
    pub const fn histogram(name: &'static str, description: &'static str) -> Self {
        Self { kind: Kind::Histogram, name, description }
    }
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that only increases.
    Counter,
    /// A value that increases and decreases.
    Gauge,
    /// A distribution of values.
    Histogram,
}

/// How often samples are aggregated into buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// The metrics of the process; the first call installs the recorder.
pub(super) fn handle() -> anyhow::Result<&'static PrometheusHandle> {
    if let Some(handle) = HANDLE.get() {
        return Ok(handle);
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_age_seconds".to_owned()), &AGE_BUCKETS))
        .context("invalid histogram buckets")?
        .install_recorder()
        .context("metrics are already initialized")?;
    // Without upkeep, single samples would use memory until the next scrape.
    let upkeep = handle.clone();
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(UPKEEP_INTERVAL);
                upkeep.run_upkeep();
            }
        })
        .context("cannot start the metrics thread")?;
    Ok(HANDLE.get_or_init(|| handle))
}

/// Registers the descriptions of `metrics` for [`render_metrics`].
pub fn describe(metrics: &[Metric]) {
    for &Metric { kind, name, description } in metrics {
        match (kind, name.ends_with("_seconds")) {
            (Kind::Counter, _) => describe_counter!(name, description),
            (Kind::Gauge, true) => describe_gauge!(name, Unit::Seconds, description),
            (Kind::Gauge, false) => describe_gauge!(name, description),
            (Kind::Histogram, true) => describe_histogram!(name, Unit::Seconds, description),
            (Kind::Histogram, false) => describe_histogram!(name, description),
        }
    }
}

/// All metrics of the process in the Prometheus text format; empty before [`super::init`].
pub fn render_metrics() -> String {
    HANDLE.get().map_or_else(String::new, |handle| {
        handle.run_upkeep();
        handle.render()
    })
}
