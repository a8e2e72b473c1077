//! Metrics: what is counted, and how it is shown.

use anyhow::Context;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{sync::OnceLock, time::Duration};

/// Seconds from a microsecond-fast answer to one that timed out.
const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Seconds in the life of an order.
const AGE_BUCKETS: [f64; 14] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// What is counted: how, under which name, and what it is.
pub const METRICS: [(Kind, &str, &str); 36] = [
    (Histogram, "off_http_request_duration_seconds", "Time to answer a request"),
    (Gauge, "off_http_connections", "Open connections"),
    (Counter, "off_http_turned_away_total", "Requests turned away because there was no room for more"),
    (Histogram, "off_order_commit_seconds", "Time to commit a batch of orders"),
    (Histogram, "off_order_batch_size", "Orders that shared one transaction"),
    (Histogram, "off_order_wait_seconds", "Longest wait of a batch for the transaction before it"),
    (Gauge, "off_orders_waiting", "Orders that wait for the next transaction"),
    (Histogram, "off_order_age_seconds", "How old orders were when they reached a state, since they were placed"),
    (Gauge, "off_order_oldest_seconds", "Age of the oldest order in a state, since it was placed"),
    (Histogram, "off_outbox_batch_size", "Messages a relay took from the outbox at once"),
    (Histogram, "off_outbox_publish_seconds", "Time until all of a batch were acknowledged"),
    (Gauge, "off_outbox_in_flight", "Messages published and not acknowledged yet"),
    (Counter, "off_outbox_published_total", "Messages carried from the outbox to the bus"),
    (Gauge, "off_outbox_lag_seconds", "Age of the oldest message in the outbox"),
    (Histogram, "off_message_batch_size", "Messages a consumer handled at once"),
    (Histogram, "off_message_batch_seconds", "Time to handle a batch"),
    (Gauge, "off_messages_in_hand", "Messages that are being handled"),
    (Counter, "off_messages_handled_total", "Messages handled and acknowledged"),
    (Counter, "off_messages_dead_total", "Messages put among the dead letters"),
    (Counter, "off_messages_dead_refused_total", "Messages given up that the dead letters did not take"),
    (Counter, "off_messages_dropped_total", "Messages of devices that could not be used and were dropped"),
    (Counter, "off_recovery_sweeps_total", "Sweeps for overdue orders, by part and outcome"),
    (Counter, "off_orders_announced_again_total", "Overdue orders that were announced again"),
    (Histogram, "off_order_publish_batch_size", "Orders that were published in one round"),
    (
        Histogram,
        "off_order_publish_seconds",
        "Time until all orders of a round were acknowledged, or given up for then",
    ),
    (Gauge, "off_orders_unpublished", "Orders whose event the broker has yet to acknowledge, after it failed to"),
    (Gauge, "off_orders_overdue", "Orders that were announced again and have not moved on since"),
    (Counter, "off_shelves_reminded_total", "Shelves that stayed low and were announced again"),
    (Counter, "off_etl_records_total", "Records of an import, by what became of them and why"),
    (Counter, "off_etl_mends_total", "What was put right in records that became products, by what it was"),
    (Histogram, "off_etl_batch_seconds", "Time to merge a batch of products into the catalogue"),
    (Counter, "off_generator_events_total", "What the generator sent, by outcome"),
    (Histogram, "off_generator_event_duration_seconds", "Time until what it sent was answered"),
    (Histogram, "off_wait_late_seconds", "How much later than promised a supplier or a delivery firm spoke"),
    (Gauge, "off_database_connections", "Connections to Postgres that are open"),
    (Gauge, "off_database_connections_in_use", "Connections to Postgres that are in use"),
];

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often it was how large.
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

/// How often samples are summed up.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

static RECORDED: OnceLock<PrometheusHandle> = OnceLock::new();

/// The process's metrics; the recorder is installed at the first call.
pub(super) fn handle() -> anyhow::Result<&'static PrometheusHandle> {
    if let Some(handle) = RECORDED.get() {
        return Ok(handle);
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full("off_order_age_seconds".to_owned()), &AGE_BUCKETS)
        })
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
    Ok(RECORDED.get_or_init(|| handle))
}

/// Names them for [`render_metrics`]; each is recorded where the thing happens.
fn describe_metrics() {
    for (kind, name, meaning) in METRICS {
        match (kind, name.ends_with("_seconds")) {
            (Counter, _) => describe_counter!(name, meaning),
            (Gauge, true) => describe_gauge!(name, Unit::Seconds, meaning),
            (Gauge, false) => describe_gauge!(name, meaning),
            (Histogram, true) => describe_histogram!(name, Unit::Seconds, meaning),
            (Histogram, false) => describe_histogram!(name, meaning),
        }
    }
}

/// All metrics of the process in Prometheus' text form; empty before [`super::init`].
pub fn render_metrics() -> String {
    RECORDED.get().map_or_else(String::new, |handle| {
        handle.run_upkeep();
        handle.render()
    })
}
