//! The metrics of the gateway.

use off_kit::telemetry::Metric;

pub(crate) const METRICS: [Metric; 5] = [
    Metric::histogram("off_gateway_upstream_seconds", "Time until a service sent the head of its answer"),
    Metric::counter("off_gateway_repeated_total", "Requests sent again because their connection to a service broke"),
    Metric::counter("off_gateway_rate_limited_total", "Requests above the rate limit of their caller"),
    Metric::gauge("off_gateway_streams", "Open streams: upgraded connections, and answers without a length"),
    Metric::counter("off_gateway_exchanges_total", "Basic credentials, by where their token came from"),
];
