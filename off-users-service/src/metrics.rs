//! The metrics of this service.

use off_kit::telemetry::Metric;

pub(crate) const METRICS: [Metric; 1] =
    [Metric::counter("off_shelves_reminded_total", "Low shelves that were announced again")];
