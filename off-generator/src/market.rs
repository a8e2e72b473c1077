//! Asking for a device and a product to order: one question on `orders.random`, two answers on `orders.new`.

use anyhow::Context;
use async_nats::{HeaderMap, Message};
use futures::StreamExt;
use off_events::{Barcode, ORDERS_NEW, ORDERS_RANDOM, RandomBarcode, RandomSsd, SsdId, headers};
use off_kit::{Bus, Kit, telemetry};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

/// How long the two answers may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Where questions are asked. Clones share the subscription to the answers.
#[derive(Debug, Clone)]
pub(crate) struct Market {
    bus: Bus,
    asked: Arc<Mutex<HashMap<String, mpsc::Sender<Message>>>>,
}

/// What there is to order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offer {
    Order(SsdId, Barcode),
    NobodyRegistered,
    EmptyCatalogue,
}

impl Market {
    /// Starts to listen for answers.
    pub(crate) fn open(kit: &Kit, bus: &Bus) -> Self {
        let market = Self { bus: bus.clone(), asked: Arc::default() };
        let (listening, tasks) = (market.clone(), kit.tasks.clone());
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
        market
    }

    /// Asks, and gathers both answers.
    pub(crate) async fn ask(&self) -> anyhow::Result<Offer> {
        let id = Uuid::now_v7().simple().to_string();
        let (sender, mut answers) = mpsc::channel(2);
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), sender);
        let offer = timeout(ANSWER_WITHIN, self.gather(&id, &mut answers)).await;
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        offer.context("orders.random was not answered by both services in time")?
    }

    async fn gather(&self, id: &str, answers: &mut mpsc::Receiver<Message>) -> anyhow::Result<Offer> {
        let mut map = HeaderMap::new();
        map.insert(headers::REQUEST_ID, id);
        if let Some(traceparent) = telemetry::current_traceparent() {
            map.insert(headers::TRACEPARENT, traceparent.as_str());
        }
        self.bus.client.publish_with_headers(ORDERS_RANDOM, map, "".into()).await?;
        let (mut ssd, mut barcode) = (None, None);
        loop {
            let answer = answers.recv().await.context("nobody listens for answers any more")?;
            if let Ok(half) = serde_json::from_slice::<RandomSsd>(&answer.payload) {
                ssd = Some(half.ssd_id);
            } else if let Ok(half) = serde_json::from_slice::<RandomBarcode>(&answer.payload) {
                barcode = Some(half.barcode);
            }
            match (ssd, &barcode) {
                (Some(None), _) => return Ok(Offer::NobodyRegistered),
                (_, Some(None)) => return Ok(Offer::EmptyCatalogue),
                (Some(Some(ssd)), Some(Some(barcode))) => return Ok(Offer::Order(ssd, barcode.clone())),
                _ => {}
            }
        }
    }
}
