//! Following a durable consumer: pull, decode, handle in batches, acknowledge.
//!
//! A handler may see a message more than once and has to be harmless then. What it cannot handle goes to the dead
//! letters, or is dropped where devices sent it; what it needs and does not find, it waits for, and the messages wait with
//! it.

use super::{
    Bus,
    dead::{self, NotKept},
    declare::is_missing,
};
use crate::{Clock, Kit, Tasks, backoff::Backoff, db, log_limit::LogLimit, telemetry};
use anyhow::{Context, bail};
use async_nats::jetstream::{
    AckKind, Message,
    consumer::{PullConsumer, pull::Stream},
};
use chrono::{DateTime, Utc};
use futures::{FutureExt, StreamExt, stream::ReadyChunks};
use metrics::{counter, gauge, histogram};
use off_events::{Event, headers, streams::Consumer};
use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tracing::{Instrument, Span, debug, error, info_span, warn};

/// The most messages in one batch.
const BATCH: usize = 500;

/// The fewest that are tried together while something is away or slow.
const SMALLEST_BATCH: usize = 20;

/// How long after a batch more may gather for the next. A batch costs almost the same for one message as for many, and
/// what comes after a pause is handled at once.
const GATHER_FOR: Duration = Duration::from_millis(10);

/// Delivered more often than this without an answer, a message is handled alone, so that it takes no others with it.
const SUSPECT_AFTER: i64 = 3;

/// Delivered more often than this, it is a dead letter: whoever handles it crashes or hangs.
const DEAD_AFTER: i64 = 10;

/// How often the broker hears that a long piece of work goes on; well within the consumer's ack wait.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Messages that wait longer than this for what is away are a warning.
const WARN_AFTER: Duration = Duration::from_secs(15);

/// When to try again to put a message among the dead letters of a broker that did not answer.
const KEEP_AGAIN: Duration = Duration::from_secs(5);

/// How much is logged of the body of a message that the dead letters refuse, in bytes.
const LOGGED_BODY: usize = 1024;

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

/// Hands every message of `consumer` to `handler` until the service stops.
pub fn listen<E, App, H, F>(kit: &Kit, bus: &Bus, consumer: Consumer, app: App, handler: H)
where
    E: Event,
    App: Clone + Send + Sync + 'static,
    H: Fn(App, Batch<E>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Failure>> + Send,
{
    let status = Arc::<Mutex<Status>>::default();
    let needed = status.clone();
    kit.needs.add(consumer.name, move || {
        let missing = needed.lock().unwrap_or_else(PoisonError::into_inner).is_missing;
        let (name, stream) = (consumer.name, consumer.stream);
        async move {
            if missing {
                Err(format!("consumer {name} of stream {stream} is missing: run `off migrate`"))
            } else {
                Ok(())
            }
        }
    });
    kit.needs.add_warning(consumer.name, {
        let status = status.clone();
        move || {
            let status = status.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = status.waits_since?.elapsed();
            let seconds = waited.as_secs();
            (waited > WARN_AFTER).then(|| format!("its messages have waited for {seconds} s: the log says for what"))
        }
    });
    let listener = Listener {
        bus: bus.clone(),
        tasks: kit.tasks.clone(),
        clock: kit.clock,
        consumer,
        handle: move |batch| handler(app.clone(), batch),
        log_limit: LogLimit::default(),
        status,
        pulled_on: AtomicU64::default(),
        event: std::marker::PhantomData::<fn() -> E>,
    };
    kit.tasks.spawn(format!("listen {}", consumer.name), async move { listener.run().await });
}

struct Listener<E, H> {
    bus: Bus,
    tasks: Tasks,
    clock: Clock,
    consumer: Consumer,
    handle: H,
    log_limit: LogLimit,
    status: Arc<Mutex<Status>>,
    /// The number of the connection that the messages in hand came on; 0 once it does not count any more.
    pulled_on: AtomicU64,
    event: std::marker::PhantomData<fn() -> E>,
}

/// How a listener is, for the health of its service.
#[derive(Debug, Default)]
struct Status {
    /// Whether the broker does not know the consumer.
    is_missing: bool,
    /// Since when messages wait for what is away.
    waits_since: Option<Instant>,
}

/// A message and what it says.
type Decoded<E> = (Message, Received<E>);

impl<E, H, F> Listener<E, H>
where
    E: Event,
    H: Fn(Batch<E>) -> F + Send + Sync,
    F: Future<Output = Result<(), Failure>> + Send,
{
    /// Follows the consumer, and begins anew whenever the pull ends, be it by an error or by a broker that died.
    async fn run(&self) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        while !self.tasks.is_stopping() {
            let followed = tokio::select! {
                followed = self.follow(&mut backoff) => followed,
                // What is given up here was not acknowledged, so it comes again.
                () = self.tasks.out_of_time() => break,
            };
            if let Err(error) = followed {
                if let Some(suppressed) = self.log_limit.admit() {
                    warn!(suppressed, "{} is interrupted: {error:#}", self.consumer.name);
                }
                self.pause(&mut backoff).await;
            }
        }
        Ok(())
    }

    async fn pause(&self, backoff: &mut Backoff) {
        tokio::select! {
            () = self.tasks.stopping() => {}
            () = tokio::time::sleep(backoff.pause()) => {}
        }
    }

    async fn follow(&self, backoff: &mut Backoff) -> anyhow::Result<()> {
        let messages = tokio::select! {
            () = self.tasks.stopping() => return Ok(()),
            messages = self.pull() => messages?,
        };
        let mut chunks = messages.ready_chunks(BATCH);
        loop {
            let chunk = tokio::select! {
                biased;
                () = self.tasks.stopping() => None,
                // Tokio's budget would cut each batch off at 128 messages. What bounds this poll is the size of a batch.
                chunk = tokio::task::unconstrained(chunks.next()) => Some(chunk.context("the pull ended")?),
            };
            let Some(chunk) = chunk else {
                hand_back(chunks).await;
                return Ok(());
            };
            let mut messages = Vec::with_capacity(chunk.len());
            let mut interrupted = None;
            for message in chunk {
                match message {
                    Ok(message) => messages.push(message),
                    Err(error) => interrupted = Some(error),
                }
            }
            if !self.is_current() {
                for message in &messages {
                    self.answer(message, AckKind::Nak(None)).await;
                }
                hand_back(chunks).await;
                return Ok(());
            }
            // Fewer than a batch is also what arrives while the broker has more.
            let is_last = messages.len() < BATCH
                && messages.last().is_none_or(|last| last.info().is_ok_and(|info| info.pending == 0));
            if let Err(Unhandled { batch, cause }) = self.handle_all(self.decode_all(messages).await).await {
                hand_back(chunks).await;
                self.wait_out(batch, cause).await;
                return Ok(());
            }
            if let Some(error) = interrupted {
                bail!(error);
            }
            *backoff = Backoff::default();
            if is_last {
                tokio::time::sleep(GATHER_FOR).await;
            }
        }
    }

    async fn pull(&self) -> anyhow::Result<Stream> {
        self.pulled_on.store(self.bus.connections(), Ordering::Relaxed);
        let found = self.bus.jetstream.get_consumer_from_stream(self.consumer.name, self.consumer.stream).await;
        self.status.lock().unwrap_or_else(PoisonError::into_inner).is_missing = found.as_ref().is_err_and(is_missing);
        let consumer: PullConsumer = found?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .expires(Duration::from_secs(10))
            // A server that died says nothing; the missing heartbeat does.
            .heartbeat(Duration::from_secs(1))
            .messages()
            .await?;
        Ok(messages)
    }

    /// What can be read of `messages`; the rest goes to the dead letters.
    async fn decode_all(&self, messages: Vec<Message>) -> Vec<Decoded<E>> {
        let mut decoded = Vec::with_capacity(messages.len());
        for message in messages {
            match self.decode(&message) {
                Ok(received) => decoded.push((message, received)),
                Err(reason) => self.give_up(&message, &reason).await,
            }
        }
        decoded
    }

    fn decode(&self, message: &Message) -> Result<Received<E>, String> {
        let info = message.info().map_err(|error| error.to_string())?;
        let event: E = serde_json::from_slice(&message.payload).map_err(|error| format!("not readable: {error}"))?;
        if event.subject() != message.subject.as_str() {
            return Err(format!("it came on {} and says it belongs on {}", message.subject, event.subject()));
        }
        if info.delivered > DEAD_AFTER {
            return Err(format!("delivered {} times without an answer: its handler crashes or hangs", info.delivered));
        }
        let header = |name| message.headers.as_ref().and_then(|map| map.get(name)).map(async_nats::HeaderValue::as_str);
        let time = |name| Some(DateTime::parse_from_rfc3339(header(name)?).ok()?.with_timezone(&Utc));
        let at = time(headers::CE_TIME)
            .or_else(|| DateTime::from_timestamp_nanos(info.published.unix_timestamp_nanos().try_into().ok()?).into())
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
            .min(self.clock.now());
        // Whatever else stands there would go on with all that follows.
        let traceparent = header(headers::TRACEPARENT).filter(|said| telemetry::trace_id(said).is_some());
        let span = if telemetry::is_exported() {
            let span = info_span!(parent: None, "event", otel.name = format!("{}.{}", self.consumer.name, message.subject),
                otel.kind = "consumer", messaging.system = "nats", messaging.operation.type = "process",
                messaging.destination.name = message.subject.as_str(), messaging.consumer.group.name = self.consumer.name,
                messaging.message.id = header(headers::CE_ID), trace_id = tracing::field::Empty);
            telemetry::continue_trace(&span, traceparent);
            span
        } else {
            Span::none()
        };
        let traceparent = traceparent.map(ToOwned::to_owned);
        Ok(Received { event, at, announced_again: time(headers::ANNOUNCED_AGAIN), span, traceparent })
    }

    /// Handles everything, as one batch where it can; comes back with what has to wait.
    async fn handle_all(&self, decoded: Vec<Decoded<E>>) -> Result<(), Unhandled> {
        let (suspects, batch): (Vec<_>, Vec<_>) = decoded
            .into_iter()
            .partition(|(message, _)| message.info().is_ok_and(|info| info.delivered > SUSPECT_AFTER));
        let mut alone = suspects;
        if !batch.is_empty() {
            let (messages, received): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let batch: Batch<E> = received.into();
            match self.handle(&messages, &batch).await {
                Ok(()) => {}
                Err(Failure::Reject(reason)) if messages.len() == 1 => self.give_up(&messages[0], &reason).await,
                Err(Failure::Reject(reason)) => {
                    debug!("{} tries {} messages one by one: {reason}", self.consumer.name, messages.len());
                    alone.extend(messages.into_iter().filter_map(|message| {
                        let received = self.decode(&message).ok()?;
                        Some((message, received))
                    }));
                }
                Err(Failure::Unavailable(cause)) => {
                    let mut waiting = messages;
                    waiting.extend(alone.into_iter().map(|(message, _)| message));
                    return Err(Unhandled { batch: waiting, cause });
                }
            }
        }
        let mut alone = alone.into_iter();
        while let Some((message, received)) = alone.next() {
            match self.handle(std::slice::from_ref(&message), &[received].into()).await {
                Ok(()) => {}
                Err(Failure::Reject(reason)) => self.give_up(&message, &reason).await,
                Err(Failure::Unavailable(cause)) => {
                    let waiting = std::iter::once(message).chain(alone.map(|(message, _)| message)).collect();
                    return Err(Unhandled { batch: waiting, cause });
                }
            }
        }
        Ok(())
    }

    async fn handle(&self, messages: &[Message], batch: &Batch<E>) -> Result<(), Failure> {
        // A batch of one belongs to that message's trace; a larger one belongs to none.
        let span = if let [received] = &batch[..] { received.alone() } else { Span::none() };
        let (in_hand, started) = (gauge!("off_messages_in_hand", "consumer" => self.consumer.name), Instant::now());
        in_hand.set(messages.len() as f64);
        // What a handler waits for is the database.
        let mut handling = pin!(db::with_timeout((self.handle)(batch.clone())).instrument(span));
        let handled = loop {
            tokio::select! {
                handled = &mut handling => break handled,
                () = tokio::time::sleep(PROGRESS_EVERY) => self.tell_progress(messages).await,
            }
        };
        in_hand.set(0.0);
        handled?;
        for message in messages {
            self.answer(message, AckKind::Ack).await;
        }
        histogram!("off_message_batch_seconds", "consumer" => self.consumer.name).record(started.elapsed());
        counter!("off_messages_handled_total", "consumer" => self.consumer.name).increment(messages.len() as u64);
        histogram!("off_message_batch_size", "consumer" => self.consumer.name).record(messages.len() as f64);
        Ok(())
    }

    /// Holds `messages` and tries again until what was away is back, fewer at a time: it may be there and slow, so that all of
    /// them together take too long. Nothing is pulled meanwhile, so that nothing else grows old in a buffer, and the broker is
    /// told that the work goes on.
    async fn wait_out(&self, mut messages: Vec<Message>, mut cause: anyhow::Error) {
        let (mut backoff, mut size) = (Backoff::default(), messages.len());
        // Long enough for a stream to be recreated.
        self.pulled_on.store(0, Ordering::Relaxed);
        loop {
            if let Some(suppressed) = self.log_limit.admit() {
                warn!(suppressed, "{} waits with {} messages: {cause:#}", self.consumer.name, messages.len());
            }
            self.status.lock().unwrap_or_else(PoisonError::into_inner).waits_since.get_or_insert_with(Instant::now);
            self.pause(&mut backoff).await;
            if self.tasks.is_stopping() {
                return;
            }
            self.tell_progress(&messages).await;
            size = (size / 2).max(SMALLEST_BATCH);
            match self.handle_in_parts(messages, size).await {
                Ok(()) => break,
                Err(unhandled) => (messages, cause) = (unhandled.batch, unhandled.cause),
            }
        }
        self.status.lock().unwrap_or_else(PoisonError::into_inner).waits_since = None;
    }

    /// Handles `messages` in batches of `size`; comes back with all that has to wait.
    async fn handle_in_parts(&self, mut messages: Vec<Message>, size: usize) -> Result<(), Unhandled> {
        while !messages.is_empty() {
            let later = messages.split_off(size.min(messages.len()));
            self.tell_progress(&later).await;
            if let Err(mut unhandled) = self.handle_all(self.decode_all(messages).await).await {
                unhandled.batch.extend(later);
                return Err(unhandled);
            }
            messages = later;
        }
        Ok(())
    }

    /// Tells the broker that the work goes on, so that nobody else is given it.
    async fn tell_progress(&self, messages: &[Message]) {
        // A client without a connection queues what it is told, and then blocks.
        if self.bus.is_connected() {
            for message in messages {
                let _ = message.ack_with(AckKind::Progress).await;
            }
        }
    }

    /// Puts a message that cannot be handled among the dead letters, and one that a device sent nowhere. What the dead
    /// letters refuse, because they are full, is logged: nothing waits for them. While the broker is away it stays where it
    /// is and is tried again.
    async fn give_up(&self, message: &Message, reason: &str) {
        let (subject, consumer) = (&message.subject, self.consumer.name);
        let answer = if self.consumer.is_from_devices {
            counter!("off_messages_dropped_total", "consumer" => consumer).increment(1);
            if let Some(suppressed) = self.log_limit.admit() {
                warn!(suppressed, "{consumer} drops a message of a device on {subject}: {reason}");
            }
            AckKind::Term
        } else {
            match dead::keep(&self.bus, &self.consumer, message, reason, self.clock.now()).await {
                Ok(()) => {
                    counter!("off_messages_dead_total", "consumer" => consumer).increment(1);
                    if let Some(suppressed) = self.log_limit.admit() {
                        error!(suppressed, "{consumer} gives up a message on {subject}: {reason}");
                    }
                    AckKind::Term
                }
                Err(NotKept::Unanswered(error)) => {
                    if let Some(suppressed) = self.log_limit.admit() {
                        warn!(suppressed, "{consumer} tries to give up a message on {subject} again: {error}");
                    }
                    AckKind::Nak(Some(KEEP_AGAIN))
                }
                Err(error) => {
                    counter!("off_messages_dead_refused_total", "consumer" => consumer).increment(1);
                    if let Some(suppressed) = self.log_limit.admit() {
                        let sequence = message.info().map(|info| info.stream_sequence).unwrap_or_default();
                        let body = String::from_utf8_lossy(&message.payload[..message.payload.len().min(LOGGED_BODY)]);
                        let body = body.escape_debug();
                        error!(suppressed, sequence, %body, "{consumer} gives up a message on {subject}: {reason}. \
                            It is not among the dead letters: {error}");
                    }
                    AckKind::Term
                }
            }
        };
        self.answer(message, answer).await;
    }

    /// Whether the messages in hand are certainly those that the broker has under their numbers.
    fn is_current(&self) -> bool {
        self.pulled_on.load(Ordering::Relaxed) == self.bus.connections()
    }

    /// Answers the broker. An answer names a message by its number alone, and a stream that was recreated or restored from an
    /// older copy has another message under it. So what may be such a message is asked for again instead of acknowledged:
    /// handling it twice is harmless. An answer that gets lost brings the message back, too.
    async fn answer(&self, message: &Message, answer: AckKind) {
        let answer = if self.is_current() { answer } else { AckKind::Nak(None) };
        if let Err(error) = message.ack_with(answer).await {
            warn!("{}: an acknowledgement was not sent: {error}", self.consumer.name);
        }
    }
}

/// Messages that wait for what is away.
struct Unhandled {
    batch: Vec<Message>,
    cause: anyhow::Error,
}

/// Gives back what was pulled and not begun, so that another replica has it at once. The pull ends first: what is given
/// back would come again through it.
async fn hand_back(mut chunks: ReadyChunks<Stream>) {
    let begun = chunks.next().now_or_never().flatten().unwrap_or_default();
    drop(chunks);
    for message in begun.into_iter().flatten() {
        let _ = message.ack_with(AckKind::Nak(None)).await;
    }
}
