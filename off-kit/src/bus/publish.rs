//! Messages on their way to a stream.

use super::Bus;
use async_nats::{
    HeaderMap, HeaderName,
    jetstream::{context::PublishError, message::PublishMessage},
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::future::join_all;
use off_events::{Event, headers};

/// A message for a stream, complete with its headers.
#[derive(Debug, Clone)]
pub struct Outgoing {
    subject: String,
    headers: HeaderMap,
    body: Bytes,
}

/// The broker did not say that it has the message; it may have it all the same.
#[derive(Debug, thiserror::Error)]
#[error("{subject} was not acknowledged: {source}")]
pub struct Unpublished {
    subject: String,
    source: PublishError,
}

impl Outgoing {
    /// `event`, said by the service `source`, which happened at `occurred_at` as part of the trace `traceparent`.
    pub fn of<E: Event>(
        source: &str,
        event: &E,
        occurred_at: DateTime<Utc>,
        traceparent: Option<&str>,
    ) -> serde_json::Result<Self> {
        let body = serde_json::to_vec(event)?;
        Ok(Self::new(event.subject(), source, &event.message_id(), body.into(), occurred_at, traceparent))
    }

    /// A message from its parts, as the outbox keeps them.
    pub fn new(
        subject: &str,
        source: &str,
        message_id: &str,
        body: Bytes,
        occurred_at: DateTime<Utc>,
        traceparent: Option<&str>,
    ) -> Self {
        let mut map = HeaderMap::new();
        // A name that is known to be static is neither checked nor copied.
        let mut insert = |name, value: &str| map.insert(HeaderName::from_static(name), value);
        insert(headers::NATS_MSG_ID, message_id);
        insert(headers::CE_ID, message_id);
        insert(headers::CE_SOURCE, &format!("/{source}"));
        insert(headers::CE_SPECVERSION, "1.0");
        insert(headers::CE_TIME, &rfc3339(occurred_at));
        insert(headers::CE_TYPE, &off_events::event_type(subject));
        if let Some(traceparent) = traceparent {
            insert(headers::TRACEPARENT, traceparent);
        }
        Self { subject: subject.to_owned(), headers: map, body }
    }

    /// The same message, announced again at `time`, if it is. The broker must not drop it: it remembers the ids of what it
    /// lost, too. What follows from such a message has to say the same time, see [`Received::announced_again`].
    ///
    /// [`Received::announced_again`]: super::Received::announced_again
    #[must_use]
    pub fn announced_again(mut self, time: Option<DateTime<Utc>>) -> Self {
        let Some(time) = time.map(rfc3339) else { return self };
        let id = self.headers.get(headers::CE_ID).map(ToString::to_string).unwrap_or_default();
        self.headers.insert(headers::NATS_MSG_ID, format!("{id}:again:{time}").as_str());
        self.headers.insert(headers::ANNOUNCED_AGAIN, time.as_str());
        self
    }

    /// The same message, kept by JetStream on `timer_subject` until `due` and only then put on its own subject, which
    /// must be of the same stream.
    #[must_use]
    pub fn kept_until(mut self, due: DateTime<Utc>, timer_subject: String) -> Self {
        self.headers.insert(headers::NATS_SCHEDULE, format!("@at {}", rfc3339(due)).as_str());
        self.headers.insert(headers::NATS_SCHEDULE_TARGET, self.subject.as_str());
        self.subject = timer_subject;
        self
    }
}

pub(super) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

impl Bus {
    /// Publishes and waits for the broker's word on each, all on their way at once; the answers are in the order of
    /// the messages, and take no longer together than one of them may. At most a few thousand at a time: the client
    /// stops for acknowledgements at 5,000.
    pub async fn publish_all(&self, messages: Vec<Outgoing>) -> Vec<Result<(), Unpublished>> {
        join_all(messages.into_iter().map(|Outgoing { subject, headers, body }| async move {
            let message = PublishMessage::build().headers(headers).payload(body);
            let answer = match self.jetstream.send_publish(subject.clone(), message).await {
                Ok(ack) => ack.await.map(drop),
                Err(error) => Err(error),
            };
            answer.map_err(|source| Unpublished { subject, source })
        }))
        .await
    }

    /// Publishes one message and waits for the broker's word.
    pub async fn publish(&self, message: Outgoing) -> Result<(), Unpublished> {
        self.publish_all(vec![message]).await.into_iter().collect()
    }
}
