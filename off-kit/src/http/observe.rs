//! What is noted of every request: a span in its trace, a line in the log, its time in the metrics.

use crate::telemetry;
use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use metrics::histogram;
use off_events::headers;
use std::time::Instant;
use tracing::{Instrument, debug, info_span, warn};

/// A method as a label: a client may invent methods, and a label must not grow with them.
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

pub(super) async fn observe(State(service): State<&'static str>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    // A label must not grow with what clients invent.
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let span = info_span!("http", otel.name = format!("{method} {route}"), otel.kind = "server", service,
        http.request.method = %method, url.path = path, http.response.status_code = tracing::field::Empty,
        trace_id = tracing::field::Empty);
    let traceparent = request.headers().get(headers::TRACEPARENT).and_then(|value| value.to_str().ok());
    telemetry::continue_trace(&span, traceparent);
    let started = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let elapsed = started.elapsed();
    let status = response.status();
    histogram!("off_http_request_duration_seconds", "service" => service, "method" => method_label(&method),
        "route" => route.clone(), "status" => status.as_u16().to_string())
    .record(elapsed);
    span.record("http.response.status_code", status.as_u16());
    span.in_scope(|| {
        let duration_ms = elapsed.as_secs_f64() * 1000.0;
        let status = status.as_u16();
        // Who is told to come back is told for a reason that is in the log already, or because there are too many.
        if status >= 500 && status != 503 {
            warn!(status, duration_ms, "{method} {path} answered {status}");
        } else {
            // Thousands a second would drown all else.
            debug!(status, duration_ms, "{method} {path} answered {status}");
        }
    });
    response
}
