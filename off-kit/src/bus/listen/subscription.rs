//! A subscription to a durable consumer: pulls messages and sends acknowledgements.

use crate::{
    Clock, Kit, Tasks,
    backoff::Backoff,
    bus::{
        Bus,
        dead_letters::{self, StoreError},
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
use off_events::{
    faults::{Fault, FaultKind},
    streams::Consumer,
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tracing::{error, warn};

/// Maximum number of messages in one batch.
pub(super) const BATCH: usize = 500;

/// Messages that wait longer than this for an unavailable dependency cause a readiness warning.
const WARN_AFTER: Duration = Duration::from_secs(15);

/// Pause before the next attempt to store a dead letter after the broker did not answer.
const STORE_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// How much of the body is logged when a dead letter cannot be stored, in bytes.
const LOGGED_BODY: usize = 1024;

/// The subscription of a listener.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) bus: Bus,
    pub(super) tasks: Tasks,
    pub(super) clock: Clock,
    pub(super) consumer: Consumer,
    pub(super) log_limit: LogLimit,
    status: Arc<Mutex<Status>>,
    /// The number of the connection on which the current messages were pulled.
    pulled_on: AtomicU64,
}

/// The status of a listener, for the readiness checks of its service.
#[derive(Debug, Default)]
struct Status {
    /// Whether the consumer does not exist at the broker.
    is_missing: bool,
    /// Since when messages wait for an unavailable dependency.
    waits_since: Option<Instant>,
}

impl Subscription {
    /// Adds a readiness check and a warning for this consumer to the service.
    pub(super) fn new(kit: &Kit, bus: &Bus, consumer: Consumer) -> Self {
        let status = Arc::<Mutex<Status>>::default();
        let checked = status.clone();
        kit.readiness_checks.add(consumer.name, move || {
            let missing = checked.lock().unwrap_or_else(PoisonError::into_inner).is_missing;
            let (name, stream) = (consumer.name, consumer.stream);
            async move {
                if missing {
                    Err(format!("consumer {name} of stream {stream} is missing: run `off migrate`"))
                } else {
                    Ok(())
                }
            }
        });
        kit.readiness_checks.add_warning(consumer.name, {
            let status = status.clone();
            move || {
                let status = status.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = status.waits_since?.elapsed();
                let seconds = waited.as_secs();
                (waited > WARN_AFTER)
                    .then(|| format!("messages have waited for {seconds} s for a dependency: see the log"))
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
        // Before the pull request is sent, so that no message can arrive on an earlier connection than this.
        self.pulled_on.store(self.bus.connections(), Ordering::Relaxed);
        let messages = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .expires(Duration::from_secs(10))
            // Detects a broker that died without closing the connection.
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

    /// Waits until the broker answers again on the current connection. Fails when the connection is lost, the consumer
    /// is missing or the service stops.
    pub(super) async fn wait_for_broker(&self) -> anyhow::Result<()> {
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

    /// Whether a failure switch hits this message, which is delivered for the first time.
    pub(super) fn is_hit(&self, kind: FaultKind, message: &Message) -> bool {
        let Some(fault) = self.fault(kind) else { return false };
        let info = message.info();
        info.is_ok_and(|info| info.delivered == 1 && fault.hits(&info.stream_sequence.to_le_bytes()))
    }

    /// By how much a failure switch makes the batch of these messages take longer.
    pub(super) fn delay(&self, messages: &[Message]) -> Option<Duration> {
        let fault = self.fault(FaultKind::ConsumerSlow)?;
        let sequence = messages.first()?.info().ok()?.stream_sequence;
        fault.hits(&sequence.to_le_bytes()).then(|| Duration::from_millis(fault.amount().into()))
    }

    /// The failure switch of this kind, if it is on for this consumer.
    fn fault(&self, kind: FaultKind) -> Option<Arc<Fault>> {
        let fault = self.bus.faults.find(kind, self.clock.now())?;
        fault.consumer.as_ref().is_none_or(|name| name == self.consumer.name).then_some(fault)
    }

    /// Waits before the next attempt, or until the service stops.
    pub(super) async fn pause(&self, backoff: &mut Backoff) {
        self.sleep(backoff.pause()).await;
    }

    /// Waits for this long, or until the service stops.
    pub(super) async fn sleep(&self, length: Duration) {
        tokio::select! {
            () = self.tasks.stopping() => {}
            () = tokio::time::sleep(length) => {}
        }
    }

    /// Records that the current messages wait for an unavailable dependency.
    pub(super) fn record_wait_start(&self) {
        self.status().waits_since.get_or_insert_with(Instant::now);
    }

    /// Records that the current messages were handled.
    pub(super) fn record_wait_end(&self) {
        self.status().waits_since = None;
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resets the ack wait of `messages`, so that the broker does not deliver them to another replica.
    pub(super) async fn report_progress(&self, messages: &[Message]) {
        // Without a connection the client queues these, and blocks when the queue is full.
        if self.bus.is_connected() {
            for message in messages {
                let _ = message.ack_with(AckKind::Progress).await;
            }
        }
    }

    /// Stores a message that cannot be handled as a dead letter; drops it when it comes from a device. When the dead
    /// letter stream is full, the message is logged and not retried. When the broker does not answer, the message is
    /// delivered again later.
    pub(super) async fn dead_letter(&self, message: &Message, reason: &str) {
        // The broker delivers it again, and it becomes a dead letter then.
        if !self.is_current() {
            return self.acknowledge(message, AckKind::Nak(None)).await;
        }
        let (subject, consumer) = (&message.subject, self.consumer.name);
        let kind = if self.consumer.is_from_devices {
            counter!("off_messages_dropped_total", "consumer" => consumer).increment(1);
            if let Some(suppressed) = self.log_limit.admit() {
                warn!(suppressed, "{consumer}: dropped a device's message on {subject}: {reason}");
            }
            AckKind::Term
        } else {
            match dead_letters::store(&self.bus, &self.consumer, message, reason, self.clock.now()).await {
                Ok(()) => {
                    counter!("off_messages_dead_total", "consumer" => consumer).increment(1);
                    if let Some(suppressed) = self.log_limit.admit() {
                        error!(suppressed, "{consumer}: a message on {subject} became a dead letter: {reason}");
                    }
                    AckKind::Term
                }
                Err(StoreError::Unanswered(error)) => {
                    if let Some(suppressed) = self.log_limit.admit() {
                        warn!(suppressed, "{consumer}: cannot store a dead letter of {subject}, retrying: {error}");
                    }
                    AckKind::Nak(Some(STORE_RETRY_INTERVAL))
                }
                Err(error) => {
                    counter!("off_messages_dead_refused_total", "consumer" => consumer).increment(1);
                    if let Some(suppressed) = self.log_limit.admit() {
                        let sequence = message.info().map(|info| info.stream_sequence).unwrap_or_default();
                        let body = String::from_utf8_lossy(&message.payload[..message.payload.len().min(LOGGED_BODY)]);
                        let body = body.escape_debug();
                        error!(suppressed, sequence, %body, "{consumer}: cannot handle message on {subject}: {reason}; \
                            cannot store it as a dead letter: {error}");
                    }
                    AckKind::Term
                }
            }
        };
        self.acknowledge(message, kind).await;
    }

    /// Whether the current messages certainly have the same sequence numbers at the broker: the connection has not
    /// changed.
    pub(super) fn is_current(&self) -> bool {
        // The order matters: the client counts a connection before it reports that it is connected.
        self.bus.is_connected() && self.pulled_on.load(Ordering::Relaxed) == self.bus.connections()
    }

    /// Acknowledges a message with `kind`. An acknowledgement identifies a message only by its sequence number, and a
    /// stream that was restored from a backup may have another message under that number. So a message of an earlier
    /// connection gets a NAK in place of an acknowledgement: handlers are idempotent. A lost acknowledgement also
    /// causes a redelivery.
    pub(super) async fn acknowledge(&self, message: &Message, kind: AckKind) {
        let kind = if self.is_current() { kind } else { AckKind::Nak(None) };
        if let Err(error) = message.ack_with(kind).await {
            warn!("{}: cannot send an acknowledgement: {error}", self.consumer.name);
        }
    }

    /// NAKs `messages`, so that another replica receives them at once.
    pub(super) async fn nak_all(&self, messages: &[Message]) {
        for message in messages {
            self.acknowledge(message, AckKind::Nak(None)).await;
        }
    }
}

/// NAKs prefetched messages, so that another replica receives them at once. Ends the pull first, because the broker
/// would deliver them again through it.
pub(super) async fn nak_prefetched(mut chunks: ReadyChunks<Stream>) {
    // Unconstrained: Tokio's cooperative budget would leave most of them until their ack wait ends.
    let prefetched = tokio::task::unconstrained(chunks.next()).now_or_never().flatten().unwrap_or_default();
    drop(chunks);
    for message in prefetched.into_iter().flatten() {
        let _ = message.ack_with(AckKind::Nak(None)).await;
    }
}
