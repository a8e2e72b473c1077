//! Dead letters: messages that could not be handled, stored with the reason and truncated to a maximum size.

use super::{Bus, Content, publish::rfc3339};
use anyhow::Context;
use async_nats::{
    HeaderMap,
    jetstream::{
        Message,
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
        stream::RawMessageErrorKind,
    },
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use off_events::{
    headers,
    streams::{ALL_DEAD_LETTERS, CONSUMERS, Consumer, DEAD_LETTER_DROPPED, DEAD_LETTERS},
};
use serde::{Serialize, Serializer};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Maximum size in bytes of the original headers in a dead letter. The broker rejects headers of more than 64 KiB in
/// total (error 10097).
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Maximum size in bytes of the original body in a dead letter, so that a few large messages do not fill the stream.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Maximum number of dead letters that are read for one page of those that match a filter.
const MAX_READ: usize = 10_000;

/// Why a message could not be stored as a dead letter.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
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

impl From<PublishError> for StoreError {
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
) -> Result<(), StoreError> {
    let info = message.info().map_err(|error| StoreError::Unnumbered(error.to_string()))?;
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

/// Which dead letters.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of this consumer.
    pub consumer: Option<String>,
    /// Those whose reason contains this text, in upper or lower case.
    pub reason: Option<String>,
    /// Messages that became dead letters at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Messages that became dead letters before this time.
    pub until: Option<DateTime<Utc>>,
}

impl Filter {
    fn matches(&self, letter: &DeadLetter) -> bool {
        let is_of_consumer = self.consumer.as_ref().is_none_or(|name| *name == letter.consumer);
        let has_reason = || {
            let reason = self.reason.as_ref().map(|text| text.to_lowercase());
            reason.is_none_or(|text| letter.reason.to_lowercase().contains(&text))
        };
        let is_in_time = || {
            if self.since.is_none() && self.until.is_none() {
                return true;
            }
            DateTime::parse_from_rfc3339(&letter.time).is_ok_and(|time| {
                self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
            })
        };
        is_of_consumer && has_reason() && is_in_time()
    }

    /// The narrowest subject of all dead letters that can match.
    fn subject(&self) -> String {
        let consumer = CONSUMERS.iter().find(|consumer| Some(consumer.name) == self.consumer.as_deref());
        consumer.map_or_else(|| ALL_DEAD_LETTERS.to_owned(), Consumer::dead_subject)
    }
}

/// Some of the dead letters that match a filter, oldest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// The dead letters.
    pub letters: Vec<DeadLetter>,
    /// The number from which the next page continues; `None` at the end.
    pub next: Option<u64>,
}

/// At most `limit` dead letters that match `filter`, from number `from` on. Reads at most 10,000, so that a page may have
/// fewer and be followed by another one. With [`Content::HeadersOnly`], their bodies are empty.
pub async fn page(bus: &Bus, filter: &Filter, from: u64, limit: usize, content: Content) -> anyhow::Result<Page> {
    let mut pages = bus.pages(DEAD_LETTERS.name, &filter.subject(), from, content).await?;
    let mut found = Page { letters: Vec::new(), next: None };
    let mut read = 0;
    'reading: while let Some(messages) = pages.next().await? {
        for message in messages {
            let Ok(number) = message.info().map(|info| info.stream_sequence) else { continue };
            if found.letters.len() == limit || read == MAX_READ {
                found.next = Some(number);
                break 'reading;
            }
            read += 1;
            let letter = letter(number, &message.subject, message.headers.as_ref(), message.payload.clone());
            if filter.matches(&letter) {
                found.letters.push(letter);
            }
        }
    }
    pages.end().await;
    Ok(found)
}

/// All dead letters, oldest first.
pub async fn list(bus: &Bus) -> anyhow::Result<Vec<DeadLetter>> {
    list_matching(bus, &Filter::default()).await
}

/// All dead letters that match `filter`, oldest first.
pub async fn list_matching(bus: &Bus, filter: &Filter) -> anyhow::Result<Vec<DeadLetter>> {
    let (mut letters, mut next) = (Vec::new(), Some(1));
    while let Some(from) = next {
        let page = page(bus, filter, from, usize::MAX, Content::Whole).await?;
        letters.extend(page.letters);
        next = page.next;
    }
    Ok(letters)
}

/// Why a dead letter could not be found, replayed or dropped.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// It does not exist, or was replayed or dropped.
    #[error("there is no dead letter {0}")]
    Missing(u64),
    /// It does not name the subject of its consumer, on which it would be published.
    #[error("dead letter {0} does not name the subject of its consumer")]
    WrongSubject(u64),
    /// Its body is incomplete, and no other one was given.
    #[error("the body of dead letter {0} was too large to be kept whole: give a complete one")]
    Truncated(u64),
    /// The broker failed.
    #[error("{0:#}")]
    Broker(#[from] anyhow::Error),
}

/// The dead letter with this sequence number.
pub async fn find(bus: &Bus, number: u64) -> Result<DeadLetter, DeadLetterError> {
    let stream = bus.jetstream.get_stream_no_info(DEAD_LETTERS.name).await.map_err(anyhow::Error::from)?;
    // The broker takes 0 for no number at all.
    if number == 0 {
        return Err(DeadLetterError::Missing(number));
    }
    let message = match stream.get_raw_message(number).await {
        Ok(message) => message,
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {
            return Err(DeadLetterError::Missing(number));
        }
        Err(error) => return Err(anyhow::Error::from(error).context("cannot read the dead letter").into()),
    };
    // The stream also has the records of those that were dropped.
    if message.subject.as_str() == DEAD_LETTER_DROPPED {
        return Err(DeadLetterError::Missing(number));
    }
    Ok(letter(number, &message.subject, Some(&message.headers), message.payload))
}

/// Publishes a record of a dead letter with the reason `why`, and deletes it.
pub async fn drop(bus: &Bus, number: u64, why: &str, now: DateTime<Utc>) -> Result<DeadLetter, DeadLetterError> {
    let letter = find(bus, number).await?;
    let note = serde_json::json!({"number": number, "subject": letter.subject, "consumer": letter.consumer,
        "reason": letter.reason, "why": why, "dropped_at": now});
    // First the record: who tries again after a failure gives the reason once more.
    let published = async { bus.jetstream.publish(DEAD_LETTER_DROPPED, note.to_string().into()).await?.await };
    published.await.context("cannot record why the dead letter is dropped")?;
    delete(bus, number).await.context("cannot delete the dead letter")?;
    Ok(letter)
}

impl DeadLetter {
    /// Whether the body was truncated, so that a replay needs a replacement body.
    pub fn is_body_cut(&self) -> bool {
        self.cut.iter().any(|cut| cut == BODY)
    }

    /// Whether it names the subject of its consumer. Any service may write any headers into its dead letters, and an
    /// operator may publish more than they may.
    fn has_right_subject(&self) -> bool {
        CONSUMERS.iter().any(|consumer| consumer.name == self.consumer && consumer.subject == self.subject)
    }

    /// Whether a replay without another body is possible.
    pub fn can_be_replayed(&self) -> bool {
        self.has_right_subject() && !self.is_body_cut()
    }
}

/// Publishes a dead letter on its original subject again, with `body` in place of its own if given, and deletes the
/// dead letter. All consumers of the subject receive it again; handlers are idempotent, so effects do not repeat.
pub async fn replay(bus: &Bus, number: u64, body: Option<Bytes>) -> Result<DeadLetter, DeadLetterError> {
    let letter = find(bus, number).await?;
    if !letter.has_right_subject() {
        return Err(DeadLetterError::WrongSubject(number));
    }
    if letter.is_body_cut() && body.is_none() {
        return Err(DeadLetterError::Truncated(number));
    }
    let mut map = HeaderMap::new();
    for (name, value) in &letter.headers {
        map.insert(name.as_str(), value.as_str());
    }
    let body = body.unwrap_or_else(|| letter.body.clone());
    // With the original id, the broker would drop the message as a duplicate; with one that is the same for another body,
    // it would drop a second attempt with a repaired one.
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let id = format!("replay:{number}:{}:{:x}", letter.time, hasher.finish());
    map.insert(headers::NATS_MSG_ID, id.as_str());
    let message = PublishMessage::build().headers(map).payload(body);
    let published = async { bus.jetstream.send_publish(letter.subject.clone(), message).await?.await };
    published.await.with_context(|| format!("cannot publish to {}", letter.subject))?;
    delete(bus, number).await.context("the message was published, but the dead letter cannot be deleted")?;
    Ok(letter)
}

async fn delete(bus: &Bus, number: u64) -> anyhow::Result<()> {
    let stream = bus.jetstream.get_stream_no_info(DEAD_LETTERS.name).await?;
    stream.delete_message(number).await?;
    Ok(())
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
