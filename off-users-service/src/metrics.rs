//! The metrics of this service.

use off_kit::telemetry::Metric;

pub(crate) const METRICS: [Metric; 3] = [
    Metric::counter("off_shelf_items_reminded_total", "Low shelf items whose `stock.low` was published again"),
    Metric::counter("off_consumption_reports_total", "Consumption reports of devices, by outcome: new or repeated"),
    Metric::counter(
        "off_consumption_reports_out_of_time_total",
        "New consumption reports whose time differs from the clock by more than five simulated minutes",
    ),
];
