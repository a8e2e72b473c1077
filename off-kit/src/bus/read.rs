//! Reads streams and the state of consumers without acknowledging anything.

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

/// Messages per fetch request.
const PAGE: usize = 1000;

/// How often to check whether a consumer has caught up.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The backlog of a durable consumer.
#[derive(Debug, Clone, Copy)]
pub struct Backlog {
    /// Messages that were not delivered yet.
    pub pending: u64,
    /// Messages that were delivered and not acknowledged yet.
    pub unacknowledged: u64,
    /// Open pull requests.
    pub pulls: u64,
    /// All messages up to this stream sequence number are acknowledged.
    pub ack_floor: u64,
}

/// Which parts of a message are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Headers and body.
    Whole,
    /// Headers without the body.
    HeadersOnly,
}

/// Reads a stream page by page, so that memory use does not depend on its size.
#[derive(Debug)]
pub struct Pages {
    bus: Bus,
    stream: String,
    subject: String,
    reader: PullConsumer,
    /// Messages that existed at the start and were not read yet.
    remaining: u64,
}

impl Pages {
    /// The next page; `None` after all messages that existed at the start.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<Message>>> {
        if self.remaining == 0 {
            return Ok(None);
        }
        let reading = || format!("cannot read {} in stream {}", self.subject, self.stream);
        // Without an expiry, `fetch` would wait forever for a server that died.
        let page = self.reader.fetch().max_messages(PAGE).expires(Duration::from_secs(5)).messages().await;
        let page: Vec<Message> = page
            .with_context(reading)?
            .try_collect()
            .await
            .map_err(|error| anyhow::anyhow!(error))
            .with_context(reading)?;
        if page.is_empty() {
            // The broker did not answer in time, or the remaining messages were deleted meanwhile.
            let info = self.reader.info().await.map_err(|error| anyhow::anyhow!(error)).with_context(reading)?;
            anyhow::ensure!(info.num_pending == 0, "{}: the broker stopped before the end", reading());
            return Ok(None);
        }
        self.remaining = self.remaining.saturating_sub(page.len() as u64);
        Ok(Some(page))
    }

    /// Deletes the temporary consumer; the broker would delete it after 30 s without use.
    pub async fn end(self) {
        let name = &self.reader.cached_info().name;
        let _ = self.bus.jetstream.delete_consumer_from_stream(name, &self.stream).await;
    }
}

impl Bus {
    /// The current messages of `stream` on `subject` (which may have wildcards) from sequence number `from` on, page by
    /// page.
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
        let remaining = reader.cached_info().num_pending;
        Ok(Pages { bus: self.clone(), stream: stream.to_owned(), subject: subject.to_owned(), reader, remaining })
    }

    /// The same messages as [`Bus::pages`], all at once.
    pub async fn read(&self, stream: &str, subject: &str, from: u64) -> anyhow::Result<Vec<Message>> {
        let mut pages = self.pages(stream, subject, from, Content::Whole).await?;
        let mut messages = Vec::new();
        while let Some(page) = pages.next().await? {
            messages.extend(page);
        }
        pages.end().await;
        Ok(messages)
    }

    /// The number of messages of `stream` on `subject`.
    pub async fn count(&self, stream: &str, subject: &str) -> anyhow::Result<u64> {
        let pages = self.pages(stream, subject, 1, Content::HeadersOnly).await?;
        let count = pages.remaining;
        pages.end().await;
        Ok(count)
    }

    /// The current backlog of `consumer`.
    pub async fn backlog(&self, consumer: &Consumer) -> anyhow::Result<Backlog> {
        let stream = self.jetstream.get_stream_no_info(consumer.stream).await?;
        let info = stream.consumer_info(consumer.name).await;
        let info = info.with_context(|| format!("cannot get the info of consumer {}", consumer.name))?;
        Ok(Backlog {
            pending: info.num_pending,
            unacknowledged: info.num_ack_pending as u64,
            pulls: info.num_waiting as u64,
            ack_floor: info.ack_floor.stream_sequence,
        })
    }

    /// Waits until `consumers` have handled all messages that are in their streams now; `false` after `timeout`.
    pub async fn catch_up(&self, consumers: &[Consumer], timeout: Duration) -> anyhow::Result<bool> {
        let deadline = Instant::now() + timeout;
        for consumer in consumers {
            let stream = self.jetstream.get_stream(consumer.stream).await;
            let stream = stream.with_context(|| format!("cannot get the info of stream {}", consumer.stream))?;
            let newest = stream.cached_info().state.last_sequence;
            loop {
                let waiting = self.backlog(consumer).await?;
                if waiting.ack_floor >= newest || (waiting.pending == 0 && waiting.unacknowledged == 0) {
                    break;
                }
                if Instant::now() >= deadline {
                    return Ok(false);
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
        Ok(true)
    }
}
