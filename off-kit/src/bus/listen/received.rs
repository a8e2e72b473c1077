//! What a handler is given, and what it answers.

use crate::{Clock, telemetry};
use async_nats::jetstream::{Message, message::Info};
use chrono::{DateTime, Utc};
use off_events::{headers, streams::Consumer};
use std::sync::Arc;
use tracing::{Span, info_span};

/// An event as it arrived.
#[derive(Debug)]
pub struct Received<E> {
    pub event: E,
    /// When the fact happened: what the message says, else when the broker stored it. Never in the future, whatever the
    /// sender's clock said.
    pub at: DateTime<Utc>,
    /// When recovery announced it again, or what led to it.
    pub announced_again: Option<DateTime<Utc>>,
    /// The handling of this message, a part of the trace it came with; none where no collector would see it.
    span: Span,
    /// The `traceparent` it came with.
    traceparent: Option<String>,
}

impl<E> Received<E> {
    /// `event` with what the headers of its message say.
    pub(super) fn new(event: E, message: &Message, info: &Info<'_>, consumer: &Consumer, clock: Clock) -> Self {
        let header = |name| message.headers.as_ref().and_then(|map| map.get(name)).map(async_nats::HeaderValue::as_str);
        let time = |name| Some(DateTime::parse_from_rfc3339(header(name)?).ok()?.with_timezone(&Utc));
        let at = time(headers::CE_TIME)
            .or_else(|| DateTime::from_timestamp_nanos(info.published.unix_timestamp_nanos().try_into().ok()?).into())
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
            .min(clock.now());
        // Whatever else stands there would go on with all that follows.
        let traceparent = header(headers::TRACEPARENT).filter(|said| telemetry::trace_id(said).is_some());
        let span = if telemetry::is_exported() {
            let span = info_span!(parent: None, "event", otel.name = format!("{}.{}", consumer.name, message.subject),
                otel.kind = "consumer", messaging.system = "nats", messaging.operation.type = "process",
                messaging.destination.name = message.subject.as_str(), messaging.consumer.group.name = consumer.name,
                messaging.message.id = header(headers::CE_ID), trace_id = tracing::field::Empty);
            telemetry::continue_trace(&span, traceparent);
            span
        } else {
            Span::none()
        };
        let traceparent = traceparent.map(ToOwned::to_owned);
        Self { event, at, announced_again: time(headers::ANNOUNCED_AGAIN), span, traceparent }
    }

    /// The `traceparent` for what follows from this message.
    pub fn traceparent(&self) -> Option<String> {
        if telemetry::is_exported() {
            self.span.in_scope(telemetry::current_traceparent)
        } else {
            self.traceparent.clone()
        }
    }

    /// The handling of this message by itself: what is logged and sent meanwhile belongs to its trace.
    pub fn alone(&self) -> Span {
        if telemetry::is_exported() {
            return self.span.clone();
        }
        let span = info_span!("event", trace_id = tracing::field::Empty);
        telemetry::continue_trace(&span, self.traceparent.as_deref());
        span
    }
}

/// What arrived together and is handled together.
pub type Batch<E> = Arc<[Received<E>]>;

/// Why a batch was not handled.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something the handler needs is away; the batch waits for it.
    #[error("cannot go on for now: {0:#}")]
    Unavailable(anyhow::Error),
    /// A message of the batch can never be handled; each is tried alone, and the culprit is a dead letter.
    #[error("{0}")]
    Reject(String),
}

/// A value or a reference the database refuses is the message's fault, and so is a row that cannot be read for it; all else
/// is the database's.
impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let is_refused = match &error {
            sqlx::Error::Database(error) => {
                error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
            }
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_) => true,
            _ => false,
        };
        if is_refused { Self::Reject(error.to_string()) } else { Self::Unavailable(error.into()) }
    }
}
