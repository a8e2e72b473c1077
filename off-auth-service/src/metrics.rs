//! The metrics of this service.

use off_kit::telemetry::Metric;

pub(crate) const METRICS: [Metric; 4] = [
    Metric::counter("off_sign_ins_total", "Attempts to sign in with a password, by outcome"),
    Metric::counter("off_refreshes_total", "Uses of refresh tokens, by outcome"),
    Metric::counter("off_client_tokens_total", "Requests of devices and clients for a token, by outcome"),
    Metric::gauge("off_signing_key_seconds_left", "How long the newest key still signs"),
];
