//! The metrics of this service.

use off_kit::telemetry::Metric;

pub(crate) const METRICS: [Metric; 3] = [
    Metric::counter("off_audits_total", "Audits that this service ran, by result: passed, findings or incomplete"),
    Metric::counter("off_dead_letters_replayed_total", "Dead letters that an operator published again"),
    Metric::counter("off_dead_letters_dropped_total", "Dead letters that an operator dropped"),
];
