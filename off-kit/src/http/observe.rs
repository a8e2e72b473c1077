//! Observability of requests: a span, a log line and a duration metric for each.

use crate::telemetry;
use axum::{
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use metrics::{Histogram, histogram};
use off_events::headers;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};
use tracing::{Instrument, debug, info_span, warn};

/// The metric label of a method. Unknown methods share one label, because clients could send any number of them.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The request durations of one service. Caches the recorders, because looking one up by its labels takes as long as
/// parsing an order.
#[derive(Debug, Clone)]
pub struct Durations {
    service: &'static str,
    recorders: Arc<RwLock<HashMap<String, Vec<Recorder>>>>,
}

/// The recorder of the requests of one route with this method and status.
#[derive(Debug)]
struct Recorder {
    method: &'static str,
    status: StatusCode,
    histogram: Histogram,
}

impl Durations {
    /// Those of the service with this name.
    pub fn new(service: &'static str) -> Self {
        Self { service, recorders: Arc::default() }
    }

    /// Records how long a request took. `route` is the pattern that its path matched, because each is a time series.
    pub fn record(&self, method: &Method, route: &str, status: StatusCode, duration: Duration) {
        let method = method_label(method);
        let known = self.recorders.read().unwrap_or_else(PoisonError::into_inner);
        let matches = |recorder: &&Recorder| recorder.method == method && recorder.status == status;
        if let Some(recorder) = known.get(route).and_then(|recorders| recorders.iter().find(matches)) {
            recorder.histogram.record(duration);
            return;
        }
        drop(known);
        let histogram = histogram!("off_http_request_duration_seconds", "service" => self.service, "method" => method,
            "route" => route.to_owned(), "status" => status.as_u16().to_string());
        histogram.record(duration);
        let mut known = self.recorders.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(route.to_owned()).or_default().push(Recorder { method, status, histogram });
    }
}

pub(super) async fn observe(State(durations): State<Durations>, request: Request, next: Next) -> Response {
    let service = durations.service;
    let method = request.method().clone();
    let uri = request.uri().clone();
    let path = uri.path();
    // Unknown paths share one label, because clients could send any number of them.
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unknown", MatchedPath::as_str);
    let span = if telemetry::is_exported() {
        info_span!("http", otel.name = format!("{method} {route}"), otel.kind = "server", service,
            http.request.method = %method, url.path = path, http.response.status_code = tracing::field::Empty,
            trace_id = tracing::field::Empty)
    } else {
        info_span!("http", service, trace_id = tracing::field::Empty)
    };
    let traceparent = request.headers().get(headers::TRACEPARENT).and_then(|value| value.to_str().ok());
    telemetry::continue_trace(&span, traceparent);
    let started = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let elapsed = started.elapsed();
    let status = response.status();
    durations.record(&method, route, status, elapsed);
    span.record("http.response.status_code", status.as_u16());
    span.in_scope(|| {
        let duration_ms = elapsed.as_secs_f64() * 1000.0;
        let status = status.as_u16();
        // 503s are logged at their cause, or are too many.
        if status >= 500 && status != 503 {
            warn!(status, duration_ms, "{method} {path} answered {status}");
        } else {
            // Thousands per second would hide all other lines.
            debug!(status, duration_ms, "{method} {path} answered {status}");
        }
    });
    response
}
