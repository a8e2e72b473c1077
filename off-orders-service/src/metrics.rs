//! The metrics of this service.

use off_kit::telemetry::Metric;

pub(crate) const METRICS: [Metric; 12] = [
    Metric::histogram("off_order_commit_seconds", "Time to commit a batch of orders"),
    Metric::histogram("off_order_batch_size", "Orders per transaction"),
    Metric::histogram("off_order_wait_seconds", "Longest time an order of a batch waited for the previous transaction"),
    Metric::gauge("off_orders_waiting", "Orders that wait for the next transaction"),
    Metric::histogram("off_order_age_seconds", "Age of orders when they reached a status, since they were placed"),
    Metric::gauge("off_order_oldest_seconds", "Age of the oldest order in a status, since it was placed"),
    Metric::counter("off_recovery_sweeps_total", "Sweeps of the recovery, by part and outcome"),
    Metric::counter("off_orders_announced_again_total", "Overdue orders that were announced again"),
    Metric::histogram("off_order_publish_batch_size", "Orders per batch of the order publisher"),
    Metric::histogram("off_order_publish_seconds", "Time until all orders of a batch were acknowledged or failed"),
    Metric::gauge(
        "off_orders_unpublished",
        "Stored orders whose event is not acknowledged yet, after a failed publish, an uncertain commit or a restart",
    ),
    Metric::gauge("off_orders_overdue", "Orders that are past their deadline although they were announced again"),
];
