//! Questions that are asked on one subject and answered on another.

use super::Bus;
use crate::{Kit, db};
use anyhow::Context;
use async_nats::{HeaderMap, Message};
use futures::StreamExt;
use off_events::headers;
use serde::{Serialize, de::DeserializeOwned};
use tracing::warn;

/// Questions answered at once; more wait in the subscription.
const AT_ONCE: usize = 64;

/// Answers each question on `subject` with what `handler` finds: on `answer_subject` with the question's
/// [`headers::REQUEST_ID`], and to its reply subject too when that is an inbox. An empty message is the default question; one
/// that cannot be read, and one that the handler leaves to others (`None`), get no answer. Replicas of a service share the
/// questions.
pub fn answer<App, H, F, Q, A>(
    kit: &Kit,
    bus: &Bus,
    subject: &'static str,
    answer_subject: &'static str,
    app: App,
    handler: H,
) where
    App: Clone + Send + Sync + 'static,
    H: Fn(App, Q) -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<Option<A>>> + Send,
    Q: DeserializeOwned + Default + Send,
    A: Serialize + Send + Sync,
{
    let bus = bus.clone();
    let tasks = kit.tasks.clone();
    let queue = kit.name;
    kit.tasks.spawn(format!("answer {subject}"), async move {
        let questions = bus.client.queue_subscribe(subject, queue.to_owned()).await;
        let questions = questions.with_context(|| format!("cannot listen on {subject}"))?;
        let answered = questions.take_until(tasks.stopping()).for_each_concurrent(AT_ONCE, |message| {
            let (bus, handler, app) = (&bus, &handler, app.clone());
            async move {
                let answered = async {
                    let question = read(&message)?;
                    match db::with_timeout(handler(app, question)).await? {
                        Some(found) => reply(bus, answer_subject, &message, &found).await,
                        None => Ok(()),
                    }
                };
                if let Err(error) = answered.await {
                    warn!("a question on {subject} stays unanswered: {error:#}");
                }
            }
        });
        answered.await;
        Ok(())
    });
}

fn read<Q: DeserializeOwned + Default>(message: &Message) -> anyhow::Result<Q> {
    if message.payload.is_empty() {
        return Ok(Q::default());
    }
    serde_json::from_slice(&message.payload).context("it is neither empty nor what is understood here")
}

/// The longest [`headers::REQUEST_ID`] and traceparent that are repeated in an answer, in bytes.
const LONGEST_HEADER: usize = 255;

/// Whether answers may go there. Whoever asks chooses the subject, and must not have us publish on one that only we may.
fn is_inbox(subject: &str) -> bool {
    subject.starts_with("_INBOX.") || subject.starts_with("_INBOX_")
}

async fn reply<A: Serialize>(bus: &Bus, subject: &'static str, question: &Message, found: &A) -> anyhow::Result<()> {
    let body = serde_json::to_vec(found)?;
    let mut map = HeaderMap::new();
    if let Some(asked) = question.headers.as_ref() {
        for name in [headers::REQUEST_ID, headers::TRACEPARENT] {
            if let Some(value) = asked.get(name).filter(|value| value.as_str().len() <= LONGEST_HEADER) {
                map.insert(name, value.clone());
            }
        }
    }
    if let Some(inbox) = question.reply.clone().filter(|inbox| is_inbox(inbox)) {
        bus.client.publish_with_headers(inbox, map.clone(), body.clone().into()).await?;
    }
    Ok(bus.client.publish_with_headers(subject, map, body.into()).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_inboxes_only() {
        assert!(is_inbox("_INBOX.a.b") && is_inbox("_INBOX_generator.a"));
        assert!(!is_inbox("orders.completed") && !is_inbox("$JS.API.STREAM.PURGE.ORDERS") && !is_inbox("_INBOXES"));
    }
}
