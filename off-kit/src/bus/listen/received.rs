//! The input and the result of a handler.

use crate::{Clock, WORK_TIMEOUT, telemetry};
use async_nats::jetstream::{Message, message::Info};
use chrono::{DateTime, Utc};
use off_events::{headers, streams::Consumer};
use std::sync::Arc;
use tracing::{Span, info_span};

/// An event as it was received, with its metadata.
#[derive(Debug)]
pub struct Received<E> {
    /// The event itself.
    pub event: E,
    /// When the fact happened: the time in the message, or else when the broker stored it. Never in the future, even if
    /// the clock of the sender is ahead.
    pub at: DateTime<Utc>,
    /// When recovery announced this event, or the event that caused it, again.
    pub announced_again_at: Option<DateTime<Utc>>,
    /// How often the message was delivered, this time included.
    pub deliveries: i64,
    /// The span of handling this message, in the trace of the message. Disabled when no spans are exported.
    span: Span,
    /// The `traceparent` header of the message.
    traceparent: Option<String>,
}

impl<E> Received<E> {
    /// `event` with the metadata from the headers of its message.
    pub(super) fn new(event: E, message: &Message, info: &Info<'_>, consumer: &Consumer, clock: Clock) -> Self {
        let header = |name| message.headers.as_ref().and_then(|map| map.get(name)).map(async_nats::HeaderValue::as_str);
        let time = |name| Some(DateTime::parse_from_rfc3339(header(name)?).ok()?.with_timezone(&Utc));
        let at = time(headers::CE_TIME)
            .or_else(|| DateTime::from_timestamp_nanos(info.published.unix_timestamp_nanos().try_into().ok()?).into())
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
            .min(clock.now());
        // An invalid value would be passed on to all events that follow from this one.
        let traceparent = header(headers::TRACEPARENT).filter(|value| telemetry::trace_id(value).is_some());
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
        Self {
            event,
            at,
            announced_again_at: time(headers::ANNOUNCED_AGAIN),
            deliveries: info.delivered,
            span,
            traceparent,
        }
    }

    /// The `traceparent` for events and requests that follow from this message.
    pub fn traceparent(&self) -> Option<String> {
        if telemetry::is_exported() {
            self.span.in_scope(telemetry::current_traceparent)
        } else {
            self.traceparent.clone()
        }
    }

    /// A span for handling this message alone, so that logs and outgoing messages belong to its trace.
    pub fn own_span(&self) -> Span {
        if telemetry::is_exported() {
            return self.span.clone();
        }
        let span = info_span!("event", trace_id = tracing::field::Empty);
        telemetry::continue_trace(&span, self.traceparent.as_deref());
        span
    }
}

/// Messages that are handled together.
pub type Batch<E> = Arc<[Received<E>]>;

/// Why a batch was not handled.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A dependency of the handler is unavailable; the batch is retried.
    #[error("unavailable: {0:#}")]
    Unavailable(anyhow::Error),
    /// A message of the batch can never be handled. Each message is handled alone, and those that fail become dead
    /// letters.
    #[error("{0}")]
    Reject(String),
}

impl Failure {
    /// The handler did not end in time.
    pub(super) fn timed_out() -> Self {
        Self::Unavailable(anyhow::anyhow!("not handled within {} s", WORK_TIMEOUT.as_secs()))
    }

    /// The failure of a handler whose query failed. Invalid values (SQLSTATE class 22), violated constraints (class 23)
    /// and rows that cannot be encoded or decoded reject the message. All other errors mean that the database is
    /// unavailable.
    #[cfg(feature = "postgres")]
    pub fn of_database(error: sqlx::Error) -> Self {
        let is_rejected = match &error {
            sqlx::Error::Database(error) => {
                error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
            }
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_) => true,
            _ => false,
        };
        if is_rejected { Self::Reject(error.to_string()) } else { Self::Unavailable(error.into()) }
    }
}
