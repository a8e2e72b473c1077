//! The metrics of this service.

use off_kit::telemetry::Metric;

pub(crate) const METRICS: [Metric; 1] =
    [Metric::counter("off_shelf_items_reminded_total", "Low shelf items whose `stock.low` was published again")];
