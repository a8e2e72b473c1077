//! Requests for a product to order, on `orders.random`.

use anyhow::Context;
use async_nats::{HeaderMap, Request};
use off_events::{Barcode, ORDERS_RANDOM, RandomBarcode, RandomRequest, SsdId, headers};
use off_kit::{Bus, backoff::Backoff, telemetry};
use std::time::Duration;
use tokio::time::timeout;
use uuid::Uuid;

/// Maximum time of a draw, with all attempts.
const DRAW_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout of an attempt. No stream stores requests and responses, so either can be lost.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

/// The first pause between two attempts, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// Client for product requests. Clones share a connection.
#[derive(Debug, Clone)]
pub(crate) struct Products {
    bus: Bus,
}

impl Products {
    /// A client that sends its requests on `bus`.
    pub(crate) fn new(bus: Bus) -> Self {
        Self { bus }
    }

    /// The product that `product_seed` selects from the catalog, for the device `ssd_id`; `None` if the catalog is
    /// empty. Retries while there is no valid response; fails after 3 s.
    pub(crate) async fn draw(&self, ssd_id: SsdId, product_seed: u32) -> anyhow::Result<Option<Barcode>> {
        let body = serde_json::to_vec(&RandomRequest { ssd_id: Some(ssd_id), product_seed: Some(product_seed) })?;
        let headers = new_headers();
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut failure = None;
        let attempts = async {
            loop {
                match self.send(&headers, &body).await {
                    Ok(response) => return response.barcode,
                    Err(error) => failure = Some(error),
                }
                tokio::time::sleep(backoff.pause()).await;
            }
        };
        let outcome = timeout(DRAW_TIMEOUT, attempts).await;
        outcome.map_err(|elapsed| failure.unwrap_or_else(|| elapsed.into()).context("no product from orders.random"))
    }

    /// One attempt. Fails after a timeout, and at once if no service receives the request.
    async fn send(&self, headers: &HeaderMap, body: &[u8]) -> anyhow::Result<RandomBarcode> {
        let client = &self.bus.client;
        // The client never frees the state of a request on its shared inbox that got no response.
        let request = Request::new().inbox(client.new_inbox()).headers(headers.clone()).payload(body.to_vec().into());
        // The client's own timeout does not cover the time until the request is sent.
        let response = timeout(ATTEMPT_TIMEOUT, client.send_request(ORDERS_RANDOM, request)).await;
        let response = response.context("no response in time")??;
        serde_json::from_slice(&response.payload).context("the response cannot be parsed")
    }
}

/// The headers of a request. All its attempts have the same request id.
fn new_headers() -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert(headers::REQUEST_ID, Uuid::now_v7().simple().to_string());
    if let Some(traceparent) = telemetry::current_traceparent() {
        map.insert(headers::TRACEPARENT, traceparent);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_nats::{Message, Subscriber};
    use futures::StreamExt;
    use off_kit::bus;
    use off_testkit::{LENTILS, TestNats, eventually};
    use std::sync::atomic::Ordering;

    async fn connect(nats: &TestNats) -> Products {
        Products::new(Bus::connect(&bus::Config::at(&nats.url), "generator").await.unwrap())
    }

    async fn subscribe(nats: &TestNats) -> Subscriber {
        let requests = nats.bus.client.subscribe(ORDERS_RANDOM).await.unwrap();
        nats.bus.client.flush().await.unwrap();
        requests
    }

    async fn respond(nats: &TestNats, request: Message, body: &'static str) {
        nats.bus.client.publish(request.reply.unwrap(), body.into()).await.unwrap();
    }

    #[tokio::test]
    async fn a_request_that_no_service_receives_is_repeated() {
        let nats = TestNats::without_streams().await;
        let products = connect(&nats).await;
        let late_service = async {
            eventually("the broker has reported that no service receives requests", || async {
                (products.bus.client.statistics().in_messages.load(Ordering::Relaxed) > 0).then_some(())
            })
            .await;
            let request = subscribe(&nats).await.next().await.unwrap();
            respond(&nats, request, r#"{"barcode":"2000000000015"}"#).await;
        };
        let (drawn, ()) = tokio::join!(products.draw(SsdId(1), 7), late_service);
        assert_eq!(drawn.unwrap().unwrap().as_str(), LENTILS);
    }

    #[tokio::test]
    async fn a_request_is_repeated_until_the_response_is_valid() {
        let nats = TestNats::without_streams().await;
        let products = connect(&nats).await;
        let mut requests = subscribe(&nats).await;
        let service = async {
            let lost = requests.next().await.unwrap();
            assert_eq!(lost.payload.as_ref(), br#"{"ssd_id":1,"product_seed":7}"#);
            let second = requests.next().await.unwrap();
            let id = |request: &Message| request.headers.as_ref().unwrap().get(headers::REQUEST_ID).unwrap().clone();
            assert_eq!(id(&lost), id(&second));
            respond(&nats, second, "poison").await;
            respond(&nats, requests.next().await.unwrap(), r#"{"barcode":null}"#).await;
        };
        let (drawn, ()) = tokio::join!(products.draw(SsdId(1), 7), service);
        assert_eq!(drawn.unwrap(), None, "the catalog is empty");
    }
}
