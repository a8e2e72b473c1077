//! Request-reply over core NATS.

use super::{ACK_TIMEOUT, Bus};
use crate::{Kit, WORK_TIMEOUT, fields::Object};
use anyhow::Context;
use async_nats::{HeaderMap, Message};
use futures::StreamExt;
use off_events::headers;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;
use tokio::time::timeout;
use tracing::warn;

/// Maximum number of requests that are handled concurrently; more wait in the subscription.
const MAX_CONCURRENT: usize = 64;

/// Responds to each request on `requests` with the result of `handler`: on `responses` with the
/// [`headers::REQUEST_ID`] of the request, and also on its reply subject if that is an inbox. An empty message is the
/// default request. A request that cannot be parsed, or for which the handler returns `None`, gets no response.
/// Replicas of a service share the requests.
pub fn respond<App, H, F, Q, R>(
    kit: &Kit,
    bus: &Bus,
    requests: &'static str,
    responses: &'static str,
    app: App,
    handler: H,
) where
    App: Clone + Send + Sync + 'static,
    H: Fn(App, Q) -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<Option<R>>> + Send,
    Q: DeserializeOwned + Default + Send,
    R: Serialize + Send + Sync,
{
    let bus = bus.clone();
    let handler = Arc::new(handler);
    answer_requests(kit, &bus.clone(), requests, move |message: Message| {
        let (bus, app, handler) = (bus.clone(), app.clone(), handler.clone());
        async move {
            let request = if message.payload.is_empty() { Q::default() } else { parse(&message)? };
            match handler(app, request).await? {
                Some(response) => send(&bus, Some(responses), &message, &response).await,
                None => Ok(()),
            }
        }
    });
}

/// Responds to each request on `requests` with the result of `handler`, on its reply subject, which must be an inbox. A
/// request that cannot be parsed, or whose handler fails, gets no response. Replicas of a service share the requests.
pub fn reply<App, H, F, Q, R>(kit: &Kit, bus: &Bus, requests: &'static str, app: App, handler: H)
where
    App: Clone + Send + Sync + 'static,
    H: Fn(App, Q) -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<R>> + Send,
    Q: DeserializeOwned + Send,
    R: Serialize + Send + Sync,
{
    let bus = bus.clone();
    let handler = Arc::new(handler);
    answer_requests(kit, &bus.clone(), requests, move |message: Message| {
        let (bus, app, handler) = (bus.clone(), app.clone(), handler.clone());
        async move {
            let response = handler(app, parse(&message)?).await?;
            send(&bus, None, &message, &response).await
        }
    });
}

/// Passes each request on `requests` to `answer`, until the service stops.
fn answer_requests<A, F>(kit: &Kit, bus: &Bus, requests: &'static str, answer: A)
where
    A: Fn(Message) -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let (bus, tasks) = (bus.clone(), kit.tasks.clone());
    let (queue, work_timeout) = (kit.name, kit.clock.shortened(WORK_TIMEOUT));
    kit.tasks.spawn(format!("respond {requests}"), async move {
        let received = bus.client.queue_subscribe(requests, queue.to_owned()).await;
        let received = received.with_context(|| format!("cannot subscribe to {requests}"))?;
        let answered = received.take_until(tasks.stopping()).for_each_concurrent(MAX_CONCURRENT, |message| async {
            let answered = timeout(work_timeout, answer(message)).await;
            if let Err(error) = answered.context("the handler did not end in time").flatten() {
                warn!("no response to a request on {requests}: {error:#}");
            }
        });
        answered.await;
        Ok(())
    });
}

impl Bus {
    /// The response to a request on `subject`. Fails if there is none within the timeout of an acknowledgement, and at
    /// once if nobody subscribes to it.
    pub async fn request<Q: Serialize, R: DeserializeOwned>(
        &self,
        subject: &'static str,
        request: &Q,
    ) -> anyhow::Result<R> {
        let body = serde_json::to_vec(request)?;
        let response = timeout(ACK_TIMEOUT, self.client.request(subject, body.into())).await;
        let response = response.context("no response in time").and_then(|response| Ok(response?));
        parse(&response.with_context(|| format!("{subject} was not answered"))?)
    }
}

fn parse<T: DeserializeOwned>(message: &Message) -> anyhow::Result<T> {
    let parsed: serde_json::Result<Object<T>> = serde_json::from_slice(&message.payload);
    parsed.map(|Object(parsed)| parsed).context("the message cannot be parsed")
}

/// Maximum length in bytes of a [`headers::REQUEST_ID`] or traceparent that is copied into a response.
const MAX_HEADER_BYTES: usize = 255;

/// Whether `subject` is an inbox. The client chooses the reply subject, so it must not be one that only services may
/// publish on.
fn is_inbox(subject: &str) -> bool {
    subject.starts_with("_INBOX.") || subject.starts_with("_INBOX_")
}

/// Sends a response to the inbox of the request, and to `subject` if there is one.
async fn send<R: Serialize>(
    bus: &Bus,
    subject: Option<&'static str>,
    request: &Message,
    response: &R,
) -> anyhow::Result<()> {
    let body = serde_json::to_vec(response)?;
    let mut map = HeaderMap::new();
    if let Some(request_headers) = request.headers.as_ref() {
        for name in [headers::REQUEST_ID, headers::TRACEPARENT] {
            if let Some(value) = request_headers.get(name).filter(|value| value.as_str().len() <= MAX_HEADER_BYTES) {
                map.insert(name, value.clone());
            }
        }
    }
    if let Some(inbox) = request.reply.clone().filter(|inbox| is_inbox(inbox)) {
        bus.client.publish_with_headers(inbox, map.clone(), body.clone().into()).await?;
    }
    if let Some(subject) = subject {
        bus.client.publish_with_headers(subject, map, body.into()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_go_only_to_inboxes() {
        assert!(is_inbox("_INBOX.a.b") && is_inbox("_INBOX_generator.a"));
        assert!(!is_inbox("orders.completed") && !is_inbox("$JS.API.STREAM.PURGE.ORDERS") && !is_inbox("_INBOXES"));
    }
}
