//! Single messages of a stream, read by their time without a consumer.

use super::{ACK_TIMEOUT, Bus};
use anyhow::Context;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::StreamExt;
use off_events::headers::CE_ID;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

/// Messages of the first request, among which a message usually is; each following request has four times as many.
const FIRST_BATCH: usize = 64;
const LARGEST_BATCH: usize = 1024;

const SEQUENCE: &str = "Nats-Sequence";
const SUBJECT: &str = "Nats-Subject";
const STORED_AT: &str = "Nats-Time-Stamp";

/// A message as its stream holds it.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// Its sequence number in the stream.
    pub sequence: u64,
    /// The subject that it was published on.
    pub subject: String,
    /// When the broker stored it.
    pub stored_at: DateTime<Utc>,
    /// Its headers, as they were published, by name.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Bytes,
}

/// Where to look for a message.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// The name of the stream.
    pub stream: &'static str,
    /// The subject of the message, without wildcards.
    pub subject: &'a str,
    /// It was stored at this time or later,
    pub from: DateTime<Utc>,
    /// and not later than at this time.
    pub until: DateTime<Utc>,
    /// At most so many messages are read.
    pub limit: usize,
}

impl Bus {
    /// The first message within `search` with this event id. The broker finds the beginning by its time, so that the cost
    /// depends only on the messages in between.
    pub async fn find_message(&self, search: Search<'_>, event_id: &str) -> anyhow::Result<Option<StoredMessage>> {
        let from = search.from.to_rfc3339_opts(SecondsFormat::Nanos, true);
        let mut request = json!({"start_time": from, "next_by_subj": search.subject, "batch": FIRST_BATCH});
        let (mut read, mut asked) = (0, FIRST_BATCH);
        loop {
            let batch = self.direct_get(search.stream, &request).await?;
            read += batch.len();
            let Some(last) = batch.last().map(|message| (message.sequence, message.stored_at)) else { return Ok(None) };
            let is_complete = batch.len() < asked || last.1 > search.until || read >= search.limit;
            if let Some(found) = batch.into_iter().find(|message| message.is_event(event_id)) {
                return Ok(Some(found).filter(|message| message.stored_at <= search.until));
            }
            if is_complete {
                return Ok(None);
            }
            asked = (asked * 4).min(LARGEST_BATCH);
            request = json!({"seq": last.0 + 1, "next_by_subj": search.subject, "batch": asked});
        }
    }

    /// The newest message of `stream` on `subject`.
    pub async fn last_message(&self, stream: &str, subject: &str) -> anyhow::Result<Option<StoredMessage>> {
        Ok(self.direct_get(stream, &json!({"multi_last": [subject], "batch": 1})).await?.pop())
    }

    /// The messages that the broker answers to a request for several (ADR-31), which any replica of a stream answers.
    pub(super) async fn direct_get(
        &self,
        stream: &str,
        request: &serde_json::Value,
    ) -> anyhow::Result<Vec<StoredMessage>> {
        let reading = || format!("cannot read the stream {stream}");
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.with_context(reading)?;
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let body = serde_json::to_vec(request)?;
        self.client.publish_with_reply(subject, inbox, body.into()).await.with_context(reading)?;
        let (mut messages, deadline) = (Vec::new(), Instant::now() + ACK_TIMEOUT);
        loop {
            let answer =
                timeout_at(deadline, answers.next()).await.context("no answer in time").with_context(reading)?;
            let answer = answer.context("the connection ended").with_context(reading)?;
            match answer.status.map(|status| status.as_u16()) {
                // No message, or the end of the batch.
                Some(404 | 204) => return Ok(messages),
                Some(status) if status != 200 => anyhow::bail!("{}: status {status}", reading()),
                _ => messages.push(StoredMessage::of(answer).with_context(reading)?),
            }
        }
    }
}

impl StoredMessage {
    fn is_event(&self, id: &str) -> bool {
        self.headers.iter().any(|(name, value)| name == CE_ID && value == id)
    }

    fn of(answer: async_nats::Message) -> anyhow::Result<Self> {
        let headers = answer.headers.unwrap_or_default();
        let header = |name| headers.get(name).map(async_nats::HeaderValue::as_str).context("a header is missing");
        let (sequence, subject) = (header(SEQUENCE)?.parse()?, header(SUBJECT)?.to_owned());
        let stored_at = DateTime::parse_from_rfc3339(header(STORED_AT)?)?.with_timezone(&Utc);
        // Those that the broker adds to its answer are not of the message.
        let added = ["Nats-Stream", SEQUENCE, SUBJECT, STORED_AT, "Nats-Num-Pending", "Nats-Last-Sequence"];
        let own = headers.iter().filter(|(name, _)| !added.contains(&name.as_ref()));
        let own = own.flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())));
        let headers = own.collect();
        Ok(Self { sequence, subject, stored_at, headers, body: answer.payload })
    }
}
