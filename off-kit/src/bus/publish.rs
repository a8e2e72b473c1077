//! Publishing messages to streams.

use super::{Bus, Received};
use async_nats::{
    HeaderMap, HeaderName,
    jetstream::{context::PublishError, message::PublishMessage},
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::future::join_all;
use off_events::{Event, headers};

/// A message for a stream, with its headers.
#[derive(Debug, Clone)]
pub struct OutboundMessage {
    subject: String,
    headers: HeaderMap,
    body: Bytes,
}

/// The broker did not acknowledge the message. It may have stored it nevertheless.
#[derive(Debug, thiserror::Error)]
#[error("{subject} was not acknowledged: {source}")]
pub struct PublishFailed {
    subject: String,
    source: PublishError,
}

impl OutboundMessage {
    /// A message for `event`, which occurred at `occurred_at` in the trace `traceparent`, published by the service
    /// `source`.
    ///
    /// # Errors
    /// The event cannot be serialized.
    pub fn of<E: Event>(
        source: &str,
        event: &E,
        occurred_at: DateTime<Utc>,
        traceparent: Option<&str>,
    ) -> serde_json::Result<Self> {
        let body = serde_json::to_vec(event)?;
        Ok(Self::new(event.subject(), source, &event.event_id(), body.into(), occurred_at, traceparent))
    }

    /// A message for `event`, which occurred at `occurred_at` because of `cause`. It continues the trace of the cause, and
    /// has a new deduplication id if the cause was announced again.
    ///
    /// # Errors
    /// The event cannot be serialized.
    pub fn caused_by<C, E: Event>(
        cause: &Received<C>,
        source: &str,
        event: &E,
        occurred_at: DateTime<Utc>,
    ) -> serde_json::Result<Self> {
        let mut message = Self::of(source, event, occurred_at, cause.traceparent().as_deref())?;
        if cause.deliveries > 1 {
            message.headers.insert(headers::DELIVERIES, cause.deliveries.to_string().as_str());
        }
        Ok(match cause.announced_again_at {
            Some(time) => message.with_new_dedup_id(time),
            None => message,
        })
    }

    /// A message from its parts, as the outbox stores them.
    pub fn new(
        subject: &str,
        source: &str,
        event_id: &str,
        body: Bytes,
        occurred_at: DateTime<Utc>,
        traceparent: Option<&str>,
    ) -> Self {
        let mut map = HeaderMap::new();
        // `from_static` neither validates nor copies the name.
        let mut insert = |name, value: &str| map.insert(HeaderName::from_static(name), value);
        insert(headers::NATS_MSG_ID, event_id);
        insert(headers::CE_ID, event_id);
        insert(headers::CE_SOURCE, &format!("/{source}"));
        insert(headers::CE_SPECVERSION, "1.0");
        insert(headers::CE_TIME, &rfc3339(occurred_at));
        insert(headers::CE_TYPE, &off_events::event_type(subject));
        if let Some(traceparent) = traceparent {
            insert(headers::TRACEPARENT, traceparent);
        }
        Self { subject: subject.to_owned(), headers: map, body }
    }

    /// The same message with a new deduplication id, announced again at `time`. The broker remembers
    /// the ids of messages that it has lost, and would drop this one as a duplicate. Events that follow from it must
    /// pass on the same time, see [`Received::announced_again_at`].
    #[must_use]
    pub fn with_new_dedup_id(mut self, time: DateTime<Utc>) -> Self {
        let time = rfc3339(time);
        let id = self.headers.get(headers::CE_ID).map(ToString::to_string).unwrap_or_default();
        self.headers.insert(headers::NATS_MSG_ID, format!("{id}:again:{time}").as_str());
        self.headers.insert(headers::ANNOUNCED_AGAIN, time.as_str());
        self
    }

    /// The same message as a message schedule: JetStream stores it on `schedule_subject` and publishes it on its own
    /// subject at `due`. Both subjects must belong to the same stream.
    #[must_use]
    pub fn scheduled_at(mut self, due: DateTime<Utc>, schedule_subject: String) -> Self {
        self.headers.insert(headers::NATS_SCHEDULE, format!("@at {}", rfc3339(due)).as_str());
        self.headers.insert(headers::NATS_SCHEDULE_TARGET, self.subject.as_str());
        self.subject = schedule_subject;
        self
    }
}

pub(super) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

impl Bus {
    /// Publishes all messages concurrently and waits for their acknowledgements. The results are in the order of the
    /// messages; all together take at most the timeout of one. Pass at most a few thousand messages: the client blocks
    /// at 5,000 outstanding acknowledgements.
    pub async fn publish_all(&self, messages: Vec<OutboundMessage>) -> Vec<Result<(), PublishFailed>> {
        join_all(messages.into_iter().map(|OutboundMessage { subject, headers, body }| async move {
            let message = PublishMessage::build().headers(headers).payload(body);
            let result = match self.jetstream.send_publish(subject.clone(), message).await {
                Ok(ack) => ack.await.map(drop),
                Err(error) => Err(error),
            };
            result.map_err(|source| PublishFailed { subject, source })
        }))
        .await
    }

    /// Publishes one message and waits for its acknowledgement.
    pub async fn publish(&self, message: OutboundMessage) -> Result<(), PublishFailed> {
        self.publish_all(vec![message]).await.into_iter().collect()
    }
}
