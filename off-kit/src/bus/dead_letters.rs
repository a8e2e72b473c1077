//! Dead letters: messages that could not be handled, stored with the reason and truncated to a maximum size.

use super::{Bus, publish::rfc3339};
use anyhow::{Context, bail};
use async_nats::{
    HeaderMap,
    jetstream::{
        Message,
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
    },
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use off_events::{
    headers,
    streams::{ALL_DEAD_LETTERS, Consumer, DEAD_LETTER_DROPPED, DEAD_LETTERS},
};
use serde::{Serialize, Serializer};

/// Maximum size in bytes of the original headers in a dead letter. The broker rejects headers of more than 64 KiB in
/// total (error 10097).
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Maximum size in bytes of the original body in a dead letter, so that a few large messages do not fill the stream.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Why a message could not be stored as a dead letter.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeadLetterError {
    /// The broker rejected it: the dead letter stream or the disk is full.
    #[error("the broker rejected it: {0}")]
    Refused(PublishError),
    /// The broker did not answer.
    #[error("the broker did not answer: {0}")]
    Unanswered(PublishError),
    /// The message has no sequence number.
    #[error("the message does not come from a stream: {0}")]
    Unnumbered(String),
}

impl From<PublishError> for DeadLetterError {
    fn from(error: PublishError) -> Self {
        match error.kind() {
            PublishErrorKind::Other | PublishErrorKind::MaxPayloadExceeded => Self::Refused(error),
            _ => Self::Unanswered(error),
        }
    }
}

/// A message that could not be handled.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetter {
    /// Its sequence number in the dead letter stream, the argument of `off dead show` and `off dead replay`.
    pub number: u64,
    /// The consumer that could not handle it.
    pub consumer: String,
    /// The subject it was published on.
    pub subject: String,
    /// Why it could not be handled.
    pub reason: String,
    /// Its sequence number in the stream it came from.
    pub sequence: String,
    /// How often it was delivered.
    pub deliveries: String,
    /// When it became a dead letter, RFC 3339.
    pub time: String,
    /// The original headers, without those of the broker.
    pub headers: Vec<(String, String)>,
    /// The original body.
    #[serde(serialize_with = "as_text")]
    pub body: Bytes,
    /// Which parts were truncated because they were too large: `headers`, `body`, or both. The complete message is in
    /// its stream under its sequence number until the stream deletes it.
    pub cut: Vec<String>,
}

/// Bytes that are not UTF-8 become replacement characters.
fn as_text<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}

/// The values of [`DeadLetter::cut`].
const HEADERS: &str = "headers";
const BODY: &str = "body";

/// Stores `message` with `reason` as a dead letter of `consumer`, truncated to the maximum size. Idempotent: the broker
/// deduplicates repeated calls for the same message.
pub(super) async fn store(
    bus: &Bus,
    consumer: &Consumer,
    message: &Message,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), DeadLetterError> {
    let info = message.info().map_err(|error| DeadLetterError::Unnumbered(error.to_string()))?;
    let mut map = HeaderMap::new();
    let (mut cut, mut size) = (Vec::new(), 0);
    for (name, value) in portable_headers(message.headers.as_ref()) {
        size += name.len() + value.len();
        if size > MAX_HEADER_BYTES {
            cut.push(HEADERS);
            break;
        }
        map.insert(name.as_str(), value.as_str());
    }
    if message.payload.len() > MAX_BODY_BYTES {
        cut.push(BODY);
    }
    let body = message.payload.slice(..message.payload.len().min(MAX_BODY_BYTES));
    // A recreated stream reuses sequence numbers, so the id contains the time of publication.
    let published = info.published.unix_timestamp_nanos();
    let id = format!("{}:{}:{}:{published}", consumer.stream, consumer.name, info.stream_sequence);
    map.insert(headers::NATS_MSG_ID, id.as_str());
    map.insert(headers::DEAD_REASON, one_line(reason).as_str());
    map.insert(headers::DEAD_SUBJECT, message.subject.as_str());
    map.insert(headers::DEAD_SEQUENCE, info.stream_sequence.to_string().as_str());
    map.insert(headers::DEAD_DELIVERIES, info.delivered.to_string().as_str());
    map.insert(headers::DEAD_TIME, rfc3339(now).as_str());
    if !cut.is_empty() {
        map.insert(headers::DEAD_CUT, cut.join(", ").as_str());
    }
    let letter = PublishMessage::build().headers(map).payload(body);
    bus.jetstream.send_publish(consumer.dead_subject(), letter).await?.await?;
    Ok(())
}

/// All dead letters, oldest first.
pub async fn list(bus: &Bus) -> anyhow::Result<Vec<DeadLetter>> {
    let messages = bus.read(DEAD_LETTERS.name, ALL_DEAD_LETTERS, 1).await?;
    Ok(messages
        .into_iter()
        .filter_map(|message| {
            let number = message.info().ok()?.stream_sequence;
            Some(letter(number, &message.subject, message.headers.as_ref(), message.payload.clone()))
        })
        .collect())
}

/// The dead letter with this sequence number.
pub async fn find(bus: &Bus, number: u64) -> anyhow::Result<DeadLetter> {
    let stream = bus.jetstream.get_stream_no_info(DEAD_LETTERS.name).await?;
    let message = stream.get_raw_message(number).await;
    let message = message.with_context(|| format!("there is no dead letter {number}; see `off dead list`"))?;
    Ok(letter(number, &message.subject, Some(&message.headers), message.payload))
}

/// Deletes a dead letter, and publishes a record of it with the reason `why`.
pub async fn drop(bus: &Bus, number: u64, why: &str, now: DateTime<Utc>) -> anyhow::Result<DeadLetter> {
    let letter = find(bus, number).await?;
    let stream = bus.jetstream.get_stream_no_info(DEAD_LETTERS.name).await?;
    stream.delete_message(number).await.context("cannot delete the dead letter")?;
    let note = serde_json::json!({"number": number, "subject": letter.subject, "consumer": letter.consumer,
        "reason": letter.reason, "why": why, "dropped_at": now});
    bus.jetstream.publish(DEAD_LETTER_DROPPED, note.to_string().into()).await?.await?;
    Ok(letter)
}

impl DeadLetter {
    /// Whether the body was truncated, so that a replay needs a replacement body.
    pub fn is_body_cut(&self) -> bool {
        self.cut.iter().any(|cut| cut == BODY)
    }
}

/// Publishes a dead letter on its original subject again, with `body` in place of its own if given, and deletes the
/// dead letter. All consumers of the subject receive it again; handlers are idempotent, so effects do not repeat.
///
/// # Errors
/// The dead letter does not exist or has no subject, its body was truncated and `body` is `None`, or the broker fails.
pub async fn replay(bus: &Bus, number: u64, body: Option<Bytes>) -> anyhow::Result<DeadLetter> {
    let letter = find(bus, number).await?;
    if letter.subject.is_empty() {
        bail!("dead letter {number} does not say which subject it came from");
    }
    if letter.is_body_cut() && body.is_none() {
        bail!("the body of dead letter {number} was too large to be kept whole: give it with --body");
    }
    let mut map = HeaderMap::new();
    for (name, value) in &letter.headers {
        map.insert(name.as_str(), value.as_str());
    }
    // With the original id, the broker would drop the message as a duplicate.
    map.insert(headers::NATS_MSG_ID, format!("replay:{number}:{}", letter.time).as_str());
    let message = PublishMessage::build().headers(map).payload(body.unwrap_or_else(|| letter.body.clone()));
    let sent = bus.jetstream.send_publish(letter.subject.clone(), message).await;
    sent?.await.with_context(|| format!("cannot publish to {}", letter.subject))?;
    let stream = bus.jetstream.get_stream_no_info(DEAD_LETTERS.name).await?;
    stream.delete_message(number).await.context("the message was published, but the dead letter cannot be deleted")?;
    Ok(letter)
}

fn letter(number: u64, subject: &str, map: Option<&HeaderMap>, body: Bytes) -> DeadLetter {
    let header = |name| map.and_then(|map| map.get(name)).map(ToString::to_string).unwrap_or_default();
    DeadLetter {
        number,
        consumer: subject.rsplit('.').next().unwrap_or_default().to_owned(),
        subject: header(headers::DEAD_SUBJECT),
        reason: header(headers::DEAD_REASON),
        sequence: header(headers::DEAD_SEQUENCE),
        deliveries: header(headers::DEAD_DELIVERIES),
        time: header(headers::DEAD_TIME),
        headers: portable_headers(map),
        cut: header(headers::DEAD_CUT).split(", ").filter(|cut| !cut.is_empty()).map(str::to_owned).collect(),
        body,
    }
}

/// The headers of the original message, without those of the broker (`Nats-`) and of the dead letter (`Off-Dead-`).
fn portable_headers(map: Option<&HeaderMap>) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = map
        .into_iter()
        .flat_map(HeaderMap::iter)
        .filter(|(name, _)| !name.to_string().starts_with("Nats-") && !name.to_string().starts_with("Off-Dead-"))
        .filter_map(|(name, values)| Some((name.to_string(), values.first()?.to_string())))
        .collect();
    headers.sort();
    headers
}

/// `text` as a header value: without control characters, at most 500 characters.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
