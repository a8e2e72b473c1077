//! Dead letters: messages that could not be handled, kept with the reason, and cut to what fits.

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
    streams::{Consumer, DEAD_LETTERS},
};
use serde::{Serialize, Serializer};

/// The most of a message's own headers that a dead letter keeps, in bytes. The broker refuses headers above 64 KiB in all
/// (error 10097).
const LARGEST_HEADERS: usize = 16 * 1024;

/// The most of a message's body that a dead letter keeps, in bytes: every one has to find room among the others.
const LARGEST_BODY: usize = 64 * 1024;

/// Why a message was not put among the dead letters.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKept {
    /// The broker answered that it does not take it: the dead letters are full, or its disk is.
    #[error("the broker refuses it: {0}")]
    Refused(PublishError),
    /// The broker did not answer.
    #[error("the broker does not answer: {0}")]
    Unanswered(PublishError),
    #[error("the message is not one of a stream: {0}")]
    Unnumbered(String),
}

impl From<PublishError> for NotKept {
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
    /// Its number among the dead letters: what `off dead show` and `off dead replay` take.
    pub number: u64,
    /// The consumer that gave it up.
    pub consumer: String,
    /// The subject it was published on.
    pub subject: String,
    pub reason: String,
    /// Its sequence number in the stream it came from.
    pub sequence: String,
    /// How often it had been delivered.
    pub deliveries: String,
    /// When it was given up.
    pub time: String,
    /// The headers it came with, without the broker's own.
    pub headers: Vec<(String, String)>,
    #[serde(serialize_with = "as_text")]
    pub body: Bytes,
    /// What of it is not whole, because it was too large; its sequence number finds the rest in its stream, while that
    /// lasts.
    pub cut: Vec<String>,
}

/// Bytes that are no text show as replacement characters.
fn as_text<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}

/// What is not whole of a dead letter.
const HEADERS: &str = "headers";
const BODY: &str = "body";

/// Puts `message` with `reason` among the dead letters of `consumer`, cut to what fits. The same message is put there once,
/// however often this is tried.
pub(super) async fn keep(
    bus: &Bus,
    consumer: &Consumer,
    message: &Message,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), NotKept> {
    let info = message.info().map_err(|error| NotKept::Unnumbered(error.to_string()))?;
    let mut map = HeaderMap::new();
    let (mut cut, mut size) = (Vec::new(), 0);
    for (name, value) in portable_headers(message.headers.as_ref()) {
        size += name.len() + value.len();
        if size > LARGEST_HEADERS {
            cut.push(HEADERS);
            break;
        }
        map.insert(name.as_str(), value.as_str());
    }
    if message.payload.len() > LARGEST_BODY {
        cut.push(BODY);
    }
    let body = message.payload.slice(..message.payload.len().min(LARGEST_BODY));
    // A stream that was recreated gives the same numbers again.
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
    let messages = bus.read(DEAD_LETTERS.name, "dead.*.*", 1).await?;
    Ok(messages
        .into_iter()
        .filter_map(|message| {
            let number = message.info().ok()?.stream_sequence;
            Some(letter(number, &message.subject, message.headers.as_ref(), message.payload.clone()))
        })
        .collect())
}

/// The dead letter with this number.
pub async fn find(bus: &Bus, number: u64) -> anyhow::Result<DeadLetter> {
    let stream = bus.jetstream.get_stream_no_info(DEAD_LETTERS.name).await?;
    let message = stream.get_raw_message(number).await;
    let message = message.with_context(|| format!("there is no dead letter {number}; see `off dead list`"))?;
    Ok(letter(number, &message.subject, Some(&message.headers), message.payload))
}

/// Takes a dead letter out of the dead letters for good, and notes there that it was dropped and why.
pub async fn drop(bus: &Bus, number: u64, why: &str, now: DateTime<Utc>) -> anyhow::Result<DeadLetter> {
    let letter = find(bus, number).await?;
    let stream = bus.jetstream.get_stream_no_info(DEAD_LETTERS.name).await?;
    stream.delete_message(number).await.context("the dead letter is still there")?;
    let note = serde_json::json!({"number": number, "subject": letter.subject, "consumer": letter.consumer,
        "reason": letter.reason, "why": why, "dropped_at": now});
    bus.jetstream.publish(headers::DEAD_DROPPED, note.to_string().into()).await?.await?;
    Ok(letter)
}

impl DeadLetter {
    /// Whether the body was too large to be kept whole, so that it has to be given for a replay.
    pub fn is_body_cut(&self) -> bool {
        self.cut.iter().any(|cut| cut == BODY)
    }
}

/// Publishes a dead letter on its subject again, with `body` instead of its own when it was repaired, and takes it out
/// of the dead letters. Everyone who listens to the subject hears it again; effects that happened do not repeat.
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
    // The broker would take the first id for a repetition and drop it.
    map.insert(headers::NATS_MSG_ID, format!("replay:{number}:{}", letter.time).as_str());
    let message = PublishMessage::build().headers(map).payload(body.unwrap_or_else(|| letter.body.clone()));
    let sent = bus.jetstream.send_publish(letter.subject.clone(), message).await;
    sent?.await.with_context(|| format!("{} did not take the message", letter.subject))?;
    let stream = bus.jetstream.get_stream_no_info(DEAD_LETTERS.name).await?;
    stream.delete_message(number).await.context("it was published, but is still among the dead letters")?;
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

/// The headers that belong to the message and not to the broker or to its burial.
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

/// A header value has no line breaks, and nobody reads past a few hundred characters of a reason.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
