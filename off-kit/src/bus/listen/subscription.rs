//! A durable consumer at the broker: messages come from it, and answers go back to it.

use crate::{
    Clock, Kit, Tasks,
    backoff::Backoff,
    bus::{
        Bus,
        dead::{self, NotKept},
        declare::is_missing,
    },
    log_limit::LogLimit,
};
use async_nats::jetstream::{
    AckKind, Message,
    consumer::{PullConsumer, pull::Stream},
};
use futures::{FutureExt, StreamExt, stream::ReadyChunks};
use metrics::counter;
use off_events::streams::Consumer;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tracing::{error, warn};

/// The most messages in one batch.
pub(super) const BATCH: usize = 500;

/// Messages that wait longer than this for what is away are a warning.
const WARN_AFTER: Duration = Duration::from_secs(15);

/// When to try again to put a message among the dead letters of a broker that did not answer.
const KEEP_AGAIN: Duration = Duration::from_secs(5);

/// How much is logged of the body of a message that the dead letters refuse, in bytes.
const LOGGED_BODY: usize = 1024;

/// What a listener follows.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) bus: Bus,
    pub(super) tasks: Tasks,
    pub(super) clock: Clock,
    pub(super) consumer: Consumer,
    pub(super) log_limit: LogLimit,
    status: Arc<Mutex<Status>>,
    /// The number of the connection that the messages in hand came on.
    pulled_on: AtomicU64,
}

/// How a listener is, for the health of its service.
#[derive(Debug, Default)]
struct Status {
    /// Whether the broker does not know the consumer.
    is_missing: bool,
    /// Since when messages wait for what is away.
    waits_since: Option<Instant>,
}

impl Subscription {
    /// Its readiness and its warnings are those of the service from now on.
    pub(super) fn new(kit: &Kit, bus: &Bus, consumer: Consumer) -> Self {
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
                (waited > WARN_AFTER)
                    .then(|| format!("its messages have waited for {seconds} s: the log says for what"))
            }
        });
        Self {
            bus: bus.clone(),
            tasks: kit.tasks.clone(),
            clock: kit.clock,
            consumer,
            log_limit: LogLimit::default(),
            status,
            pulled_on: AtomicU64::default(),
        }
    }

    pub(super) async fn pull(&self) -> anyhow::Result<Stream> {
        let consumer = self.find().await?;
        // Nothing has been asked for yet, so nothing can come on an earlier connection than this.
        self.pulled_on.store(self.bus.connections(), Ordering::Relaxed);
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

    async fn find(&self) -> anyhow::Result<PullConsumer> {
        let found = self.bus.jetstream.get_consumer_from_stream(self.consumer.name, self.consumer.stream).await;
        self.status().is_missing = found.as_ref().is_err_and(is_missing);
        Ok(found?)
    }

    /// Waits until the broker answers again on the present connection; fails when that is lost, the consumer is missing or the
    /// service stops.
    pub(super) async fn answers_again(&self) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        while let Err(error) = self.find().await {
            if !self.is_current() || self.status().is_missing || self.tasks.is_stopping() {
                return Err(error);
            }
            if let Some(suppressed) = self.log_limit.admit() {
                warn!(suppressed, "{}: the broker does not answer: {error:#}", self.consumer.name);
            }
            self.pause(&mut backoff).await;
        }
        Ok(())
    }

    /// Waits before the next try, or until the service stops.
    pub(super) async fn pause(&self, backoff: &mut Backoff) {
        tokio::select! {
            () = self.tasks.stopping() => {}
            () = tokio::time::sleep(backoff.pause()) => {}
        }
    }

    /// Notes that the messages in hand wait for what is away.
    pub(super) fn wait_begins(&self) {
        self.status().waits_since.get_or_insert_with(Instant::now);
    }

    /// Notes that the messages in hand were handled.
    pub(super) fn wait_ends(&self) {
        self.status().waits_since = None;
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the broker that the work goes on, so that nobody else is given it.
    pub(super) async fn tell_progress(&self, messages: &[Message]) {
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
    pub(super) async fn give_up(&self, message: &Message, reason: &str) {
        // It is delivered again, and given up then.
        if !self.is_current() {
            return self.answer(message, AckKind::Nak(None)).await;
        }
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
    pub(super) fn is_current(&self) -> bool {
        // In this order: the client counts a connection before it says that it is connected.
        self.bus.is_connected() && self.pulled_on.load(Ordering::Relaxed) == self.bus.connections()
    }

    /// Answers the broker. An answer names a message by its number alone, and a stream that was restored from an older copy has
    /// another message under it. So what came on an earlier connection is asked for again instead of acknowledged: handling it
    /// twice is harmless. An answer that gets lost brings the message back, too.
    pub(super) async fn answer(&self, message: &Message, answer: AckKind) {
        let answer = if self.is_current() { answer } else { AckKind::Nak(None) };
        if let Err(error) = message.ack_with(answer).await {
            warn!("{}: an acknowledgement was not sent: {error}", self.consumer.name);
        }
    }
}

/// Gives back what was pulled and not begun, so that another replica has it at once. The pull ends first: what is given
/// back would come again through it.
pub(super) async fn hand_back(mut chunks: ReadyChunks<Stream>) {
    // Tokio's budget would leave most of it to the ack wait.
    let begun = tokio::task::unconstrained(chunks.next()).now_or_never().flatten().unwrap_or_default();
    drop(chunks);
    for message in begun.into_iter().flatten() {
        let _ = message.ack_with(AckKind::Nak(None)).await;
    }
}
