//! The metrics of this service.

use off_kit::telemetry::Metric;

pub(crate) const METRICS: [Metric; 1] =
    [Metric::histogram("off_wait_late_seconds", "Delay of a supplier or a delivery firm after the end of its wait")];
