//! The metrics of this importer.

use off_kit::telemetry::Metric;

/// All metrics of an import.
pub const METRICS: [Metric; 3] = [
    Metric::counter("off_etl_records_total", "Records of an import, by outcome and reason"),
    Metric::counter("off_etl_corrections_total", "Corrections in imported products, by kind"),
    Metric::histogram("off_etl_batch_seconds", "Time to merge a batch of products into the catalog"),
];
