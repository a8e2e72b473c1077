//! Requests for a product to order on `orders.random`, with responses on `orders.new`.

use anyhow::Context;
use async_nats::{HeaderMap, Message};
use futures::StreamExt;
use off_events::{Barcode, ORDERS_NEW, ORDERS_RANDOM, RandomBarcode, RandomRequest, SsdId, headers};
use off_kit::{Bus, Kit, telemetry};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

/// Timeout of a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Client for product requests. Clones share the subscription to the responses.
#[derive(Debug, Clone)]
pub(crate) struct Products {
    bus: Bus,
    pending: Arc<Mutex<HashMap<String, mpsc::Sender<Message>>>>,
}

impl Products {
    /// Subscribes to the responses.
    pub(crate) fn open(kit: &Kit, bus: &Bus) -> Self {
        let products = Self { bus: bus.clone(), pending: Arc::default() };
        let (client, tasks) = (products.clone(), kit.tasks.clone());
        kit.tasks.spawn("listen orders.new", async move {
            let responses = client.bus.client.subscribe(ORDERS_NEW).await.context("cannot subscribe to orders.new")?;
            let mut responses = Box::pin(responses.take_until(tasks.stopping()));
            while let Some(response) = responses.next().await {
                let id = response.headers.as_ref().and_then(|map| map.get(headers::REQUEST_ID));
                let pending = client.pending.lock().unwrap_or_else(PoisonError::into_inner);
                // A response without a known id belongs to another client.
                if let Some(sender) = id.and_then(|id| pending.get(id.as_str())) {
                    let _ = sender.try_send(response);
                }
            }
            Ok(())
        });
        products
    }

    /// The product that `product_seed` selects from the catalog, for the device `ssd_id`; `None` if the catalog is
    /// empty. Fails after a timeout.
    pub(crate) async fn draw(&self, ssd_id: SsdId, product_seed: u32) -> anyhow::Result<Option<Barcode>> {
        let id = Uuid::now_v7().simple().to_string();
        let (sender, mut responses) = mpsc::channel(2);
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), sender);
        let request = RandomRequest { ssd_id: Some(ssd_id), product_seed: Some(product_seed) };
        let response = timeout(RESPONSE_TIMEOUT, self.request(&id, &request, &mut responses)).await;
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        response.context("no response to orders.random in time")?
    }

    async fn request(
        &self,
        id: &str,
        request: &RandomRequest,
        responses: &mut mpsc::Receiver<Message>,
    ) -> anyhow::Result<Option<Barcode>> {
        let mut map = HeaderMap::new();
        map.insert(headers::REQUEST_ID, id);
        if let Some(traceparent) = telemetry::current_traceparent() {
            map.insert(headers::TRACEPARENT, traceparent.as_str());
        }
        self.bus.client.publish_with_headers(ORDERS_RANDOM, map, serde_json::to_vec(request)?.into()).await?;
        loop {
            let response = responses.recv().await.context("the subscription to responses has ended")?;
            if let Ok(RandomBarcode { barcode }) = serde_json::from_slice(&response.payload) {
                return Ok(barcode);
            }
        }
    }
}
