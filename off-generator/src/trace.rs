//! Traces of events.

use off_kit::telemetry;
use tracing::{Span, info_span};

/// The span of an event of this kind, in a new trace.
pub(crate) fn new_span(kind: &str) -> Span {
    let name = format!("generate.{kind}");
    let span = info_span!("generate", otel.name = name, trace_id = tracing::field::Empty);
    telemetry::continue_trace(&span, None);
    span
}
