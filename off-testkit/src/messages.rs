//! Publishes and reads messages, as a client of the broker does.

use crate::{TestNats, eventually};
use async_nats::{HeaderMap, jetstream::Message, subject::ToSubject};
use bytes::Bytes;
use off_events::streams::Consumer;
use off_kit::bus::dead_letters::{self, DeadLetter};
use serde_json::Value;

impl TestNats {
    /// Publishes a message on a stream's `subject` without headers, as a minimal device does.
    pub async fn publish(&self, subject: impl ToSubject, body: &Value) {
        self.publish_bytes(subject, body.to_string()).await;
    }

    /// [`TestNats::publish`] with any body.
    pub async fn publish_bytes(&self, subject: impl ToSubject, body: impl Into<Bytes>) {
        let sent = self.bus.jetstream.publish(subject, body.into()).await.expect("the message is sent");
        sent.await.expect("the stream acknowledges the message");
    }

    /// [`TestNats::publish_bytes`] with headers.
    pub async fn publish_with_headers(&self, subject: impl ToSubject, headers: HeaderMap, body: impl Into<Bytes>) {
        let sent = self.bus.jetstream.publish_with_headers(subject, headers, body.into()).await;
        sent.expect("the message is sent").await.expect("the stream acknowledges the message");
    }

    /// The messages of a stream on `subject`, oldest first.
    pub async fn messages(&self, stream: &str, subject: &str) -> Vec<Message> {
        self.bus.read(stream, subject, 1).await.expect("the stream can be read")
    }

    /// Waits until a stream has `count` messages on `subject`.
    pub async fn wait_for_messages(&self, stream: &str, subject: &str, count: usize) -> Vec<Message> {
        eventually(&format!("{count} messages on {subject}"), || async {
            let messages = self.bus.read(stream, subject, 1).await.ok()?;
            (messages.len() >= count).then_some(messages)
        })
        .await
    }

    /// Deletes all messages of a stream.
    pub async fn delete_messages(&self, stream: &str) {
        let stream = self.bus.jetstream.get_stream_no_info(stream).await.expect("the stream exists");
        stream.purge().await.expect("the messages are deleted");
    }

    /// All dead letters, oldest first.
    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        dead_letters::list(&self.bus).await.expect("the dead letters can be read")
    }

    /// Waits until there are `count` dead letters.
    pub async fn wait_for_dead_letters(&self, count: usize) -> Vec<DeadLetter> {
        eventually(&format!("{count} dead letters"), || async {
            let letters = dead_letters::list(&self.bus).await.ok()?;
            (letters.len() >= count).then_some(letters)
        })
        .await
    }

    /// Waits until `consumer` has no pending and no unacknowledged messages.
    pub async fn wait_until_caught_up(&self, consumer: &Consumer) {
        eventually(&format!("{} has caught up", consumer.name), || async {
            let waiting = self.bus.backlog(consumer).await.ok()?;
            (waiting.pending == 0 && waiting.unacknowledged == 0).then_some(())
        })
        .await;
    }
}
