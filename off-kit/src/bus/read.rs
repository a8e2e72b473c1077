//! Looking into a stream without taking anything out of it.

use super::Bus;
use anyhow::Context;
use async_nats::jetstream::{
    Message,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
    stream::DirectGetErrorKind,
};
use futures::{StreamExt, TryStreamExt, stream};
use off_events::streams::Consumer;
use std::time::Duration;
use tokio::time::Instant;

/// Messages fetched in one request.
const PAGE: usize = 1000;

/// Single messages asked for at once.
const AT_ONCE: usize = 64;

/// How often it is looked whether a consumer has caught up.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What lies before a durable consumer.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// Messages not delivered yet.
    pub pending: u64,
    /// Messages delivered and not acknowledged yet.
    pub in_hand: u64,
    /// Everything up to this sequence number of the stream is acknowledged.
    pub ack_floor: u64,
}

impl Bus {
    /// Every message of `stream` on `subject` (which may have wildcards) from sequence number `from` on, as far as
    /// there are any now.
    pub async fn read(&self, stream: &str, subject: &str, from: u64) -> anyhow::Result<Vec<Message>> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
            ack_policy: AckPolicy::None,
            filter_subject: subject.to_owned(),
            inactive_threshold: Duration::from_secs(30),
            memory_storage: true,
            ..pull::Config::default()
        };
        let reading = || format!("cannot read {subject} in stream {stream}");
        let reader: PullConsumer =
            self.jetstream.create_consumer_on_stream(config, stream).await.with_context(reading)?;
        let expected = reader.cached_info().num_pending;
        let mut messages = Vec::new();
        while (messages.len() as u64) < expected {
            // `fetch` does not wait for what is not there, but for ever for a server that died: hence the limit.
            let page = reader.fetch().max_messages(PAGE).expires(Duration::from_secs(5)).messages().await;
            let page: Vec<Message> = page
                .with_context(reading)?
                .try_collect()
                .await
                .map_err(|error| anyhow::anyhow!(error))
                .with_context(reading)?;
            if page.is_empty() {
                break;
            }
            messages.extend(page);
        }
        let name = reader.cached_info().name.clone();
        // It would go by itself after its threshold.
        let _ = self.jetstream.delete_consumer_from_stream(&name, stream).await;
        Ok(messages)
    }

    /// What lies before `consumer` now.
    pub async fn waiting(&self, consumer: &Consumer) -> anyhow::Result<Waiting> {
        let stream = self.jetstream.get_stream_no_info(consumer.stream).await?;
        let info = stream.consumer_info(consumer.name).await;
        let info = info.with_context(|| format!("cannot ask for consumer {}", consumer.name))?;
        Ok(Waiting {
            pending: info.num_pending,
            in_hand: info.num_ack_pending as u64,
            ack_floor: info.ack_floor.stream_sequence,
        })
    }

    /// Waits until `consumers` have handled all that is in their streams at this moment; `false` when that takes
    /// longer than `patience`.
    pub async fn catch_up(&self, consumers: &[Consumer], patience: Duration) -> anyhow::Result<bool> {
        let deadline = Instant::now() + patience;
        for consumer in consumers {
            let stream = self.jetstream.get_stream(consumer.stream).await;
            let stream = stream.with_context(|| format!("cannot ask for stream {}", consumer.stream))?;
            let newest = stream.cached_info().state.last_sequence;
            loop {
                let waiting = self.waiting(consumer).await?;
                if waiting.ack_floor >= newest || (waiting.pending == 0 && waiting.in_hand == 0) {
                    break;
                }
                if Instant::now() >= deadline {
                    return Ok(false);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(true)
    }

    /// Which of `subjects` have a message in `stream`, in the same order.
    pub async fn are_kept(&self, stream: &str, subjects: Vec<String>) -> anyhow::Result<Vec<bool>> {
        let handle = self.jetstream.get_stream_no_info(stream).await?;
        let answers = stream::iter(subjects).map(|subject| {
            let handle = &handle;
            async move {
                match handle.direct_get_last_for_subject(subject).await {
                    Ok(_) => Ok(true),
                    Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(false),
                    Err(error) => Err(error).with_context(|| format!("cannot look into stream {stream}")),
                }
            }
        });
        answers.buffered(AT_ONCE).try_collect().await
    }
}
