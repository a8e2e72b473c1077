//! Request-reply: requests on one subject, responses on another.

use super::Bus;
use crate::{Kit, WORK_TIMEOUT, fields::Object};
use anyhow::Context;
use async_nats::{HeaderMap, Message};
use futures::StreamExt;
use off_events::headers;
use serde::{Serialize, de::DeserializeOwned};
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
    let (tasks, work_timeout) = (kit.tasks.clone(), kit.clock.shortened(WORK_TIMEOUT));
    let queue = kit.name;
    kit.tasks.spawn(format!("respond {requests}"), async move {
        let received = bus.client.queue_subscribe(requests, queue.to_owned()).await;
        let received = received.with_context(|| format!("cannot subscribe to {requests}"))?;
        let handled = received.take_until(tasks.stopping()).for_each_concurrent(MAX_CONCURRENT, |message| {
            let (bus, handler, app) = (&bus, &handler, app.clone());
            async move {
                let handled = async {
                    let request = parse(&message)?;
                    let handled = timeout(work_timeout, handler(app, request)).await;
                    match handled.context("the handler did not end in time")?? {
                        Some(response) => send(bus, responses, &message, &response).await,
                        None => Ok(()),
                    }
                };
                if let Err(error) = handled.await {
                    warn!("no response to a request on {requests}: {error:#}");
                }
            }
        });
        handled.await;
        Ok(())
    });
}

fn parse<Q: DeserializeOwned + Default>(message: &Message) -> anyhow::Result<Q> {
    if message.payload.is_empty() {
        return Ok(Q::default());
    }
    let request: serde_json::Result<Object<Q>> = serde_json::from_slice(&message.payload);
    request.map(|Object(request)| request).context("the request cannot be parsed")
}

/// Maximum length in bytes of a [`headers::REQUEST_ID`] or traceparent that is copied into a response.
const MAX_HEADER_BYTES: usize = 255;

/// Whether `subject` is an inbox. The client chooses the reply subject, so it must not be one that only services may
/// publish on.
fn is_inbox(subject: &str) -> bool {
    subject.starts_with("_INBOX.") || subject.starts_with("_INBOX_")
}

async fn send<R: Serialize>(bus: &Bus, subject: &'static str, request: &Message, response: &R) -> anyhow::Result<()> {
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
    Ok(bus.client.publish_with_headers(subject, map, body.into()).await?)
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
