//! Following a durable consumer: pull, decode, handle in batches, acknowledge.
//!
//! A handler may see a message more than once and has to be harmless then. What it cannot handle goes to the dead
//! letters, or is dropped where devices sent it; what it needs and does not find, it waits for, and the messages wait with
//! it.

mod received;
mod subscription;

pub use received::{Batch, Failure, Received};

use super::Bus;
use crate::{Kit, backoff::Backoff, db};
use anyhow::{Context, bail};
use async_nats::jetstream::{AckKind, Message, consumer::pull::MessagesErrorKind};
use futures::StreamExt;
use metrics::{counter, gauge, histogram};
use off_events::{Event, streams::Consumer};
use std::{
    pin::pin,
    time::{Duration, Instant},
};
use subscription::{BATCH, Subscription, hand_back};
use tracing::{Instrument, Span, debug, warn};

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

/// Hands every message of `consumer` to `handler` until the service stops.
pub fn listen<E, App, H, F>(kit: &Kit, bus: &Bus, consumer: Consumer, app: App, handler: H)
where
    E: Event,
    App: Clone + Send + Sync + 'static,
    H: Fn(App, Batch<E>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Failure>> + Send,
{
    let listener = Listener {
        name: consumer.name,
        subscription: Subscription::new(kit, bus, consumer),
        handle: move |batch| handler(app.clone(), batch),
        event: std::marker::PhantomData::<fn() -> E>,
    };
    kit.tasks.spawn(format!("listen {}", consumer.name), async move { listener.run().await });
}

struct Listener<E, H> {
    /// Of its consumer, for logs and metrics.
    name: &'static str,
    subscription: Subscription,
    handle: H,
    event: std::marker::PhantomData<fn() -> E>,
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
        while !self.subscription.tasks.is_stopping() {
            let followed = tokio::select! {
                followed = self.follow(&mut backoff) => followed,
                // What is given up here was not acknowledged, so it comes again.
                () = self.subscription.tasks.out_of_time() => break,
            };
            if let Err(error) = followed {
                if let Some(suppressed) = self.subscription.log_limit.admit() {
                    warn!(suppressed, "{} is interrupted: {error:#}", self.name);
                }
                self.subscription.pause(&mut backoff).await;
            }
        }
        Ok(())
    }

    async fn follow(&self, backoff: &mut Backoff) -> anyhow::Result<()> {
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
            // The broker may have been restored meanwhile; it delivers these again.
            if !self.subscription.is_current() {
                for message in &messages {
                    self.subscription.answer(message, AckKind::Nak(None)).await;
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
                // A broker that was frozen or slow still sends to this pull, and what it sends to one that has ended comes again
                // only after the ack wait. A broker that answers and sends no heartbeat has forgotten the pull.
                if heartbeat_was_missed || error.kind() != MessagesErrorKind::MissingHeartbeat {
                    bail!(error);
                }
                self.subscription.answers_again().await.context(error)?;
                heartbeat_was_missed = true;
                continue;
            }
            heartbeat_was_missed = false;
            *backoff = Backoff::default();
            if is_last {
                tokio::time::sleep(GATHER_FOR).await;
            }
        }
    }

    /// What can be read of `messages`; the rest goes to the dead letters.
    async fn decode_all(&self, messages: Vec<Message>) -> Vec<Decoded<E>> {
        let mut decoded = Vec::with_capacity(messages.len());
        for message in messages {
            match self.decode(&message) {
                Ok(received) => decoded.push((message, received)),
                Err(reason) => self.subscription.give_up(&message, &reason).await,
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
        Ok(Received::new(event, message, &info, &self.subscription.consumer, self.subscription.clock))
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
                Err(Failure::Reject(reason)) if messages.len() == 1 => {
                    self.subscription.give_up(&messages[0], &reason).await;
                }
                Err(Failure::Reject(reason)) => {
                    debug!("{} tries {} messages one by one: {reason}", self.name, messages.len());
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
                Err(Failure::Reject(reason)) => self.subscription.give_up(&message, &reason).await,
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
        let (in_hand, started) = (gauge!("off_messages_in_hand", "consumer" => self.name), Instant::now());
        in_hand.set(messages.len() as f64);
        // What a handler waits for is the database.
        let mut handling = pin!(db::with_timeout((self.handle)(batch.clone())).instrument(span));
        let handled = loop {
            tokio::select! {
                handled = &mut handling => break handled,
                () = tokio::time::sleep(PROGRESS_EVERY) => self.subscription.tell_progress(messages).await,
            }
        };
        in_hand.set(0.0);
        handled?;
        for message in messages {
            self.subscription.answer(message, AckKind::Ack).await;
        }
        histogram!("off_message_batch_seconds", "consumer" => self.name).record(started.elapsed());
        counter!("off_messages_handled_total", "consumer" => self.name).increment(messages.len() as u64);
        histogram!("off_message_batch_size", "consumer" => self.name).record(messages.len() as f64);
        Ok(())
    }

    /// Holds `messages` and tries again until what was away is back, fewer at a time: it may be there and slow, so that all of
    /// them together take too long. Nothing is pulled meanwhile, so that nothing else grows old in a buffer, and the broker is
    /// told that the work goes on.
    async fn wait_out(&self, mut messages: Vec<Message>, mut cause: anyhow::Error) {
        let (mut backoff, mut size) = (Backoff::default(), messages.len());
        loop {
            if let Some(suppressed) = self.subscription.log_limit.admit() {
                warn!(suppressed, "{} waits with {} messages: {cause:#}", self.name, messages.len());
            }
            self.subscription.wait_begins();
            self.subscription.pause(&mut backoff).await;
            if self.subscription.tasks.is_stopping() {
                return;
            }
            self.subscription.tell_progress(&messages).await;
            size = (size / 2).max(SMALLEST_BATCH);
            match self.handle_in_parts(messages, size).await {
                Ok(()) => break,
                Err(unhandled) => (messages, cause) = (unhandled.batch, unhandled.cause),
            }
        }
        self.subscription.wait_ends();
    }

    /// Handles `messages` in batches of `size`; comes back with all that has to wait.
    async fn handle_in_parts(&self, mut messages: Vec<Message>, size: usize) -> Result<(), Unhandled> {
        while !messages.is_empty() {
            let later = messages.split_off(size.min(messages.len()));
            self.subscription.tell_progress(&later).await;
            if let Err(mut unhandled) = self.handle_all(self.decode_all(messages).await).await {
                unhandled.batch.extend(later);
                return Err(unhandled);
            }
            messages = later;
        }
        Ok(())
    }
}

/// Messages that wait for what is away.
struct Unhandled {
    batch: Vec<Message>,
    cause: anyhow::Error,
}
