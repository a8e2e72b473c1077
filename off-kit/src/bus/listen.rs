//! Consumes a durable consumer: pull, decode, handle in batches, acknowledge.
//!
//! Handlers must be idempotent, because a message may be delivered more than once. A message that cannot be handled
//! becomes a dead letter; one that a device sent is dropped. When a dependency of the handler is unavailable, the
//! listener keeps the messages and retries.

mod received;
mod subscription;

pub use received::{Batch, Failure, Received};

use super::Bus;
use crate::{Kit, WORK_TIMEOUT, backoff::Backoff};
use anyhow::{Context, bail};
use async_nats::jetstream::{AckKind, Message, consumer::pull::MessagesErrorKind};
use futures::StreamExt;
use metrics::{counter, gauge, histogram};
use off_events::{Event, faults::FaultKind, streams::Consumer};
use std::{
    pin::pin,
    time::{Duration, Instant},
};
use subscription::{BATCH, Subscription, nak_prefetched};
use tokio::time::timeout;
use tracing::{Instrument, Span, debug, warn};

/// Minimum batch size while a dependency is unavailable or slow.
const MIN_BATCH: usize = 20;

/// A message that was delivered more often than this without an acknowledgement is handled alone, so that it cannot
/// make other messages fail.
const HANDLE_ALONE_AFTER: i64 = 3;

/// A message that was delivered more often than this becomes a dead letter: its handler crashes or hangs.
const MAX_DELIVERIES: i64 = 10;

/// How often a running handler reports progress to the broker; well below the ack wait of the consumer.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Spawns a task that passes every message of `consumer` to `handler`, in batches, until the service stops.
pub fn listen<E, App, H, F>(kit: &Kit, bus: &Bus, consumer: Consumer, app: App, handler: H)
where
    E: Event,
    App: Clone + Send + Sync + 'static,
    H: Fn(App, Batch<E>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Failure>> + Send,
{
    let listener = Listener {
        name: consumer.name,
        linger: consumer.linger,
        subscription: Subscription::new(kit, bus, consumer),
        handle: move |batch| handler(app.clone(), batch),
        event: std::marker::PhantomData::<fn() -> E>,
    };
    kit.tasks.spawn(format!("listen {}", consumer.name), async move { listener.run().await });
}

struct Listener<E, H> {
    /// The name of the consumer, for logs and metrics.
    name: &'static str,
    linger: Duration,
    subscription: Subscription,
    handle: H,
    event: std::marker::PhantomData<fn() -> E>,
}

/// A message and its decoded event.
type Decoded<E> = (Message, Received<E>);

impl<E, H, F> Listener<E, H>
where
    E: Event,
    H: Fn(Batch<E>) -> F + Send + Sync,
    F: Future<Output = Result<(), Failure>> + Send,
{
    /// Consumes messages, and starts a new pull whenever one ends, by an error or because the broker died.
    async fn run(&self) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        while !self.subscription.tasks.is_stopping() {
            let consumed = tokio::select! {
                consumed = self.consume(&mut backoff) => consumed,
                // Unfinished messages are not acknowledged, so the broker delivers them again.
                () = self.subscription.tasks.grace_period_elapsed() => break,
            };
            if let Err(error) = consumed {
                if let Some(suppressed) = self.subscription.log_limit.admit() {
                    warn!(suppressed, "{}: receives no messages, retrying: {error:#}", self.name);
                }
                self.subscription.pause(&mut backoff).await;
            }
        }
        Ok(())
    }

    async fn consume(&self, backoff: &mut Backoff) -> anyhow::Result<()> {
        let messages = tokio::select! {
            () = self.subscription.tasks.stopping() => return Ok(()),
            messages = self.subscription.pull() => messages?,
        };
        let mut chunks = messages.ready_chunks(BATCH);
        let mut heartbeat_was_missed = false;
        loop {
            let chunk = tokio::select! {
                biased;
                () = self.subscription.tasks.stopping() => None,
                // Tokio's cooperative budget would limit each batch to 128 messages. The batch size bounds this poll.
                chunk = tokio::task::unconstrained(chunks.next()) => Some(chunk.context("the message stream ended")?),
            };
            let Some(chunk) = chunk else {
                nak_prefetched(chunks).await;
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
            self.count_redelivered(&messages);
            // After a reconnect the broker may have been restored from a backup. NAK these messages: it delivers them
            // again.
            if !self.subscription.is_current() {
                self.subscription.nak_all(&messages).await;
                nak_prefetched(chunks).await;
                return Ok(());
            }
            // A chunk smaller than a batch does not prove that the backlog is empty.
            let is_last = messages.len() < BATCH
                && messages.last().is_none_or(|last| last.info().is_ok_and(|info| info.pending == 0));
            if let Err(Unhandled { batch, cause }) = self.handle_all(self.decode_all(messages).await).await {
                nak_prefetched(chunks).await;
                self.retry_until_available(batch, cause).await;
                return Ok(());
            }
            if let Some(error) = interrupted {
                // A broker that was frozen or slow still sends to this pull. What it sends to a pull that has ended is
                // delivered again only after the ack wait. A broker that answers and sends no heartbeat has lost the
                // pull.
                if heartbeat_was_missed || error.kind() != MessagesErrorKind::MissingHeartbeat {
                    bail!(error);
                }
                self.subscription.wait_for_broker().await.context(error)?;
                heartbeat_was_missed = true;
                continue;
            }
            heartbeat_was_missed = false;
            *backoff = Backoff::default();
            if is_last {
                tokio::time::sleep(self.linger).await;
            }
        }
    }

    fn count_redelivered(&self, messages: &[Message]) {
        let redelivered = messages.iter().filter(|message| message.info().is_ok_and(|info| info.delivered > 1));
        counter!("off_messages_redelivered_total", "consumer" => self.name).increment(redelivered.count() as u64);
    }

    /// Decodes `messages`; those that cannot be decoded become dead letters.
    async fn decode_all(&self, messages: Vec<Message>) -> Vec<Decoded<E>> {
        let mut decoded = Vec::with_capacity(messages.len());
        for message in messages {
            if self.subscription.is_hit(FaultKind::ConsumerFailing, &message) {
                self.subscription.acknowledge(&message, AckKind::Nak(None)).await;
                continue;
            }
            match self.decode(&message) {
                Ok(received) => decoded.push((message, received)),
                Err(reason) => self.subscription.dead_letter(&message, &reason).await,
            }
        }
        decoded
    }

    fn decode(&self, message: &Message) -> Result<Received<E>, String> {
        let info = message.info().map_err(|error| error.to_string())?;
        let event: E = serde_json::from_slice(&message.payload).map_err(|error| format!("not readable: {error}"))?;
        if event.subject() != message.subject.as_str() {
            return Err(format!(
                "arrived on subject {}, but the event belongs on {}",
                message.subject,
                event.subject()
            ));
        }
        if info.delivered > MAX_DELIVERIES {
            let deliveries = info.delivered;
            return Err(format!(
                "delivered {deliveries} times and never acknowledged: its handler crashes or hangs, or the service or the \
                 broker was interrupted each time"
            ));
        }
        Ok(Received::new(event, message, &info, &self.subscription.consumer, self.subscription.clock))
    }

    /// Handles all messages, as one batch if possible. The error contains the messages that have to be retried.
    async fn handle_all(&self, decoded: Vec<Decoded<E>>) -> Result<(), Unhandled> {
        let (suspects, batch): (Vec<_>, Vec<_>) = decoded
            .into_iter()
            .partition(|(message, _)| message.info().is_ok_and(|info| info.delivered > HANDLE_ALONE_AFTER));
        let mut alone = suspects;
        if !batch.is_empty() {
            let (messages, received): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let batch: Batch<E> = received.into();
            let delay = self.subscription.delay(&messages);
            match self.handle(&messages, &batch, delay).await {
                Ok(()) => {}
                Err(Failure::Reject(reason)) if messages.len() == 1 => {
                    self.subscription.dead_letter(&messages[0], &reason).await;
                }
                Err(Failure::Reject(reason)) => {
                    debug!("{}: handling {} messages one by one: {reason}", self.name, messages.len());
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
            match self.handle(std::slice::from_ref(&message), &[received].into(), None).await {
                Ok(()) => {}
                Err(Failure::Reject(reason)) => self.subscription.dead_letter(&message, &reason).await,
                Err(Failure::Unavailable(cause)) => {
                    let waiting = std::iter::once(message).chain(alone.map(|(message, _)| message)).collect();
                    return Err(Unhandled { batch: waiting, cause });
                }
            }
        }
        Ok(())
    }

    /// Handles a batch, after `delay` if a failure switch says so.
    async fn handle(&self, messages: &[Message], batch: &Batch<E>, delay: Option<Duration>) -> Result<(), Failure> {
        // A batch of one message belongs to the trace of that message; a larger batch belongs to no trace.
        let span = if let [received] = &batch[..] { received.own_span() } else { Span::none() };
        let (in_hand, started) = (gauge!("off_messages_being_handled", "consumer" => self.name), Instant::now());
        in_hand.set(messages.len() as f64);
        let mut handling = pin!(async {
            if let Some(delay) = delay {
                self.subscription.sleep(delay).await;
            }
            timeout(self.subscription.clock.shortened(WORK_TIMEOUT), (self.handle)(batch.clone()))
                .instrument(span)
                .await
        });
        let handled = loop {
            tokio::select! {
                handled = &mut handling => break handled,
                () = tokio::time::sleep(PROGRESS_INTERVAL) => self.subscription.report_progress(messages).await,
            }
        };
        in_hand.set(0.0);
        handled.map_err(|_| Failure::timed_out())??;
        for message in messages {
            let is_repeated = self.subscription.is_hit(FaultKind::Duplicates, message);
            let kind = if is_repeated { AckKind::Nak(None) } else { AckKind::Ack };
            self.subscription.acknowledge(message, kind).await;
        }
        histogram!("off_message_batch_seconds", "consumer" => self.name).record(started.elapsed());
        counter!("off_messages_handled_total", "consumer" => self.name).increment(messages.len() as u64);
        histogram!("off_message_batch_size", "consumer" => self.name).record(messages.len() as f64);
        Ok(())
    }

    /// Retries `messages` until the dependency is available again. Halves the batch size with each retry, because a
    /// slow dependency may not handle all of them in time. Pulls nothing meanwhile, so that no messages exceed their
    /// ack wait in a buffer, and reports progress to the broker. NAKs the messages when the service stops.
    async fn retry_until_available(&self, mut messages: Vec<Message>, mut cause: anyhow::Error) {
        let (mut backoff, mut size) = (Backoff::default(), messages.len());
        loop {
            if let Some(suppressed) = self.subscription.log_limit.admit() {
                warn!(suppressed, "{}: cannot handle {} messages, retrying: {cause:#}", self.name, messages.len());
            }
            self.subscription.record_wait_start();
            self.subscription.pause(&mut backoff).await;
            if self.subscription.tasks.is_stopping() {
                return self.subscription.nak_all(&messages).await;
            }
            self.subscription.report_progress(&messages).await;
            size = (size / 2).max(MIN_BATCH);
            match self.handle_in_batches(messages, size).await {
                Ok(()) => break,
                Err(unhandled) => (messages, cause) = (unhandled.batch, unhandled.cause),
            }
        }
        self.subscription.record_wait_end();
    }

    /// Handles `messages` in batches of `size`. The error contains all messages that have to be retried.
    async fn handle_in_batches(&self, mut messages: Vec<Message>, size: usize) -> Result<(), Unhandled> {
        while !messages.is_empty() {
            let later = messages.split_off(size.min(messages.len()));
            self.subscription.report_progress(&later).await;
            if let Err(mut unhandled) = self.handle_all(self.decode_all(messages).await).await {
                unhandled.batch.extend(later);
                return Err(unhandled);
            }
            messages = later;
        }
        Ok(())
    }
}

/// Messages that wait for an unavailable dependency.
struct Unhandled {
    batch: Vec<Message>,
    cause: anyhow::Error,
}
