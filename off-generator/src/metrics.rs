//! The metrics of this generator.

use off_kit::telemetry::Metric;

pub(crate) const METRICS: [Metric; 2] = [
    Metric::counter("off_generator_events_total", "Events sent by the generator, by kind and outcome"),
    Metric::histogram("off_generator_event_duration_seconds", "Time until an event of the generator was answered"),
];
