//! Looking into a stream without taking anything out of it.

use super::Bus;
use anyhow::Context;
use async_nats::jetstream::{
    Message,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
};
use futures::TryStreamExt;
use off_events::streams::Consumer;
use std::time::Duration;
use tokio::time::Instant;

/// Messages fetched in one request.
const PAGE: usize = 1000;

/// How often it is looked whether a consumer has caught up.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What lies before a durable consumer.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// Messages not delivered yet.
    pub pending: u64,
    /// Messages delivered and not acknowledged yet.
    pub in_hand: u64,
    /// Requests for messages that wait for some to come.
    pub pulls: u64,
    /// Everything up to this sequence number of the stream is acknowledged.
    pub ack_floor: u64,
}

/// How much of each message is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Whole,
    HeadersOnly,
}

/// A stream that is read page by page, so that it takes the same memory whatever its size.
#[derive(Debug)]
pub struct Pages {
    bus: Bus,
    stream: String,
    subject: String,
    reader: PullConsumer,
    /// Messages that were there when the reading began and are yet to be read.
    left: u64,
}

impl Pages {
    /// The next messages; `None` once all that were there at the beginning are read.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<Message>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let reading = || format!("cannot read {} in stream {}", self.subject, self.stream);
        // `fetch` does not wait for what is not there, but for ever for a server that died: hence the limit.
        let page = self.reader.fetch().max_messages(PAGE).expires(Duration::from_secs(5)).messages().await;
        let page: Vec<Message> = page
            .with_context(reading)?
            .try_collect()
            .await
            .map_err(|error| anyhow::anyhow!(error))
            .with_context(reading)?;
        if page.is_empty() {
            // A broker that does not answer in time ends a page, too; and what was left may be gone meanwhile.
            let info = self.reader.info().await.map_err(|error| anyhow::anyhow!(error)).with_context(reading)?;
            anyhow::ensure!(info.num_pending == 0, "{}: the broker stopped in the middle", reading());
            return Ok(None);
        }
        self.left = self.left.saturating_sub(page.len() as u64);
        Ok(Some(page))
    }

    /// Takes the reader out of the broker, which would do so by itself after a while.
    pub async fn end(self) {
        let name = &self.reader.cached_info().name;
        let _ = self.bus.jetstream.delete_consumer_from_stream(name, &self.stream).await;
    }
}

impl Bus {
    /// The messages of `stream` on `subject` (which may have wildcards) from sequence number `from` on, as far as there
    /// are any now, page by page.
    pub async fn pages(&self, stream: &str, subject: &str, from: u64, content: Content) -> anyhow::Result<Pages> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
            ack_policy: AckPolicy::None,
            filter_subject: subject.to_owned(),
            inactive_threshold: Duration::from_secs(30),
            memory_storage: true,
            headers_only: content == Content::HeadersOnly,
            ..pull::Config::default()
        };
        let reader: PullConsumer = self
            .jetstream
            .create_consumer_on_stream(config, stream)
            .await
            .with_context(|| format!("cannot read {subject} in stream {stream}"))?;
        let left = reader.cached_info().num_pending;
        Ok(Pages { bus: self.clone(), stream: stream.to_owned(), subject: subject.to_owned(), reader, left })
    }

    /// All of them at once.
    pub async fn read(&self, stream: &str, subject: &str, from: u64) -> anyhow::Result<Vec<Message>> {
        let mut pages = self.pages(stream, subject, from, Content::Whole).await?;
        let mut messages = Vec::new();
        while let Some(page) = pages.next().await? {
            messages.extend(page);
        }
        pages.end().await;
        Ok(messages)
    }

    /// How many messages `stream` holds on `subject`.
    pub async fn count(&self, stream: &str, subject: &str) -> anyhow::Result<u64> {
        let pages = self.pages(stream, subject, 1, Content::HeadersOnly).await?;
        let count = pages.left;
        pages.end().await;
        Ok(count)
    }

    /// What lies before `consumer` now.
    pub async fn waiting(&self, consumer: &Consumer) -> anyhow::Result<Waiting> {
        let stream = self.jetstream.get_stream_no_info(consumer.stream).await?;
        let info = stream.consumer_info(consumer.name).await;
        let info = info.with_context(|| format!("cannot ask for consumer {}", consumer.name))?;
        Ok(Waiting {
            pending: info.num_pending,
            in_hand: info.num_ack_pending as u64,
            pulls: info.num_waiting as u64,
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
}
