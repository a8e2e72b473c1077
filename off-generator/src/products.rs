//! Asking for a product to order: a question on `orders.random`, its answer on `orders.new`.

use anyhow::Context;
use async_nats::{HeaderMap, Message};
use futures::StreamExt;
use off_events::{Barcode, ORDERS_NEW, ORDERS_RANDOM, RandomBarcode, RandomQuestion, SsdId, headers};
use off_kit::{Bus, Kit, telemetry};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

/// How long the answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Where questions are asked. Clones share the subscription to the answers.
#[derive(Debug, Clone)]
pub(crate) struct Products {
    bus: Bus,
    asked: Arc<Mutex<HashMap<String, mpsc::Sender<Message>>>>,
}

impl Products {
    /// Starts to listen for answers.
    pub(crate) fn open(kit: &Kit, bus: &Bus) -> Self {
        let products = Self { bus: bus.clone(), asked: Arc::default() };
        let (listening, tasks) = (products.clone(), kit.tasks.clone());
        kit.tasks.spawn("listen orders.new", async move {
            let answers = listening.bus.client.subscribe(ORDERS_NEW).await.context("cannot listen on orders.new")?;
            let mut answers = Box::pin(answers.take_until(tasks.stopping()));
            while let Some(answer) = answers.next().await {
                let id = answer.headers.as_ref().and_then(|map| map.get(headers::REQUEST_ID));
                let asked = listening.asked.lock().unwrap_or_else(PoisonError::into_inner);
                // Without an id, or with one that nobody here waits for, it answers someone else.
                if let Some(waiting) = id.and_then(|id| asked.get(id.as_str())) {
                    let _ = waiting.try_send(answer);
                }
            }
            Ok(())
        });
        products
    }

    /// The product that `product_seed` draws from the catalogue, for the device `ssd_id`; `None` while the catalogue is empty.
    pub(crate) async fn draw(&self, ssd_id: SsdId, product_seed: u32) -> anyhow::Result<Option<Barcode>> {
        let id = Uuid::now_v7().simple().to_string();
        let (sender, mut answers) = mpsc::channel(2);
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), sender);
        let question = RandomQuestion { ssd_id: Some(ssd_id), product_seed: Some(product_seed) };
        let answer = timeout(ANSWER_WITHIN, self.ask(&id, &question, &mut answers)).await;
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        answer.context("orders.random was not answered in time")?
    }

    async fn ask(
        &self,
        id: &str,
        question: &RandomQuestion,
        answers: &mut mpsc::Receiver<Message>,
    ) -> anyhow::Result<Option<Barcode>> {
        let mut map = HeaderMap::new();
        map.insert(headers::REQUEST_ID, id);
        if let Some(traceparent) = telemetry::current_traceparent() {
            map.insert(headers::TRACEPARENT, traceparent.as_str());
        }
        self.bus.client.publish_with_headers(ORDERS_RANDOM, map, serde_json::to_vec(question)?.into()).await?;
        loop {
            let answer = answers.recv().await.context("nobody listens for answers any more")?;
            if let Ok(RandomBarcode { barcode }) = serde_json::from_slice(&answer.payload) {
                return Ok(barcode);
            }
        }
    }
}
