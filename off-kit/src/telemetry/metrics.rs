//! Metrics: their definitions, the recorder and the Prometheus output.

use anyhow::Context;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{sync::OnceLock, time::Duration};

/// Histogram buckets in seconds for durations, up to a timeout.
const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Histogram buckets in seconds for the age of orders.
const AGE_BUCKETS: [f64; 14] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// All metrics: kind, name and description.
pub const METRICS: [(Kind, &str, &str); 36] = [
    (Histogram, "off_http_request_duration_seconds", "Duration of requests"),
    (Gauge, "off_http_connections", "Open HTTP connections"),
    (Counter, "off_http_shed_total", "Requests rejected by load shedding"),
    (Histogram, "off_order_commit_seconds", "Time to commit a batch of orders"),
    (Histogram, "off_order_batch_size", "Orders per transaction"),
    (Histogram, "off_order_wait_seconds", "Longest time an order of a batch waited for the previous transaction"),
    (Gauge, "off_orders_waiting", "Orders that wait for the next transaction"),
    (Histogram, "off_order_age_seconds", "Age of orders when they reached a status, since they were placed"),
    (Gauge, "off_order_oldest_seconds", "Age of the oldest order in a status, since it was placed"),
    (Histogram, "off_outbox_batch_size", "Messages per batch of the outbox relay"),
    (Histogram, "off_outbox_publish_seconds", "Time until the broker acknowledged all messages of a batch"),
    (Gauge, "off_outbox_in_flight", "Messages published by the relay and not acknowledged yet"),
    (Counter, "off_outbox_published_total", "Messages relayed from the outbox and acknowledged"),
    (Gauge, "off_outbox_lag_seconds", "Age of the oldest message in the outbox"),
    (Histogram, "off_message_batch_size", "Messages per batch of a consumer"),
    (Histogram, "off_message_batch_seconds", "Time to handle a batch"),
    (Gauge, "off_messages_being_handled", "Messages currently being handled"),
    (Counter, "off_messages_handled_total", "Messages handled and acknowledged"),
    (Counter, "off_messages_dead_total", "Messages stored as dead letters"),
    (Counter, "off_messages_dead_refused_total", "Messages that could neither be handled nor stored as dead letters"),
    (Counter, "off_messages_dropped_total", "Messages of devices that could not be handled and were dropped"),
    (Counter, "off_recovery_sweeps_total", "Sweeps of the recovery, by part and outcome"),
    (Counter, "off_orders_announced_again_total", "Overdue orders that were announced again"),
    (Histogram, "off_order_publish_batch_size", "Orders per batch of the order publisher"),
    (Histogram, "off_order_publish_seconds", "Time until all orders of a batch were acknowledged or failed"),
    (Gauge, "off_orders_unpublished", "Stored orders whose event is not acknowledged yet, after a failed publish"),
    (Gauge, "off_orders_overdue", "Orders that were announced again and have not moved on since"),
    (Counter, "off_shelves_reminded_total", "Low shelves that were announced again"),
    (Counter, "off_etl_records_total", "Records of an import, by outcome and reason"),
    (Counter, "off_etl_corrections_total", "Corrections in imported products, by kind"),
    (Histogram, "off_etl_batch_seconds", "Time to merge a batch of products into the catalog"),
    (Counter, "off_generator_events_total", "Events sent by the generator, by outcome"),
    (Histogram, "off_generator_event_duration_seconds", "Time until an event of the generator was answered"),
    (Histogram, "off_wait_late_seconds", "Delay of a supplier or a delivery firm after the end of its wait"),
    (Gauge, "off_database_connections", "Open connections to Postgres"),
    (Gauge, "off_database_connections_in_use", "Connections to Postgres in use"),
];

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

use Kind::{Counter, Gauge, Histogram};

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
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full("off_order_age_seconds".to_owned()), &AGE_BUCKETS)
        })
        .context("invalid histogram buckets")?
        .install_recorder()
        .context("metrics are already initialized")?;
    describe_metrics();
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

/// Registers the descriptions for [`render_metrics`].
fn describe_metrics() {
    for (kind, name, description) in METRICS {
        match (kind, name.ends_with("_seconds")) {
            (Counter, _) => describe_counter!(name, description),
            (Gauge, true) => describe_gauge!(name, Unit::Seconds, description),
            (Gauge, false) => describe_gauge!(name, description),
            (Histogram, true) => describe_histogram!(name, Unit::Seconds, description),
            (Histogram, false) => describe_histogram!(name, description),
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
