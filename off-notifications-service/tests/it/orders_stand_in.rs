//! A stand-in for the orders service, which ships the orders that may leave.

use futures::StreamExt;
use off_events::{OrderId, ShipReply, ShipRequest};
use off_testkit::TestNats;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

/// The running stand-in. It ends with its NATS server.
#[derive(Debug, Clone, Default)]
pub(crate) struct OrdersStandIn {
    ended: Arc<Mutex<HashSet<OrderId>>>,
    asked: Arc<Mutex<Vec<Vec<OrderId>>>>,
}

impl OrdersStandIn {
    pub(crate) async fn start(nats: &TestNats) -> Self {
        let (stand_in, client) = (Self::default(), nats.bus.client.clone());
        let answering = stand_in.clone();
        let mut requests = client.subscribe(ShipRequest::SUBJECT).await.unwrap();
        client.flush().await.unwrap();
        tokio::spawn(async move {
            while let Some(message) = requests.next().await {
                let request: ShipRequest = serde_json::from_slice(&message.payload).unwrap();
                let reply = serde_json::to_vec(&answering.answer(&request)).unwrap();
                client.publish(message.reply.unwrap(), reply.into()).await.unwrap();
            }
        });
        stand_in
    }

    fn answer(&self, request: &ShipRequest) -> ShipReply {
        let orders: Vec<OrderId> = request.orders.iter().map(|ready| ready.id).collect();
        self.asked.lock().unwrap().push(orders.clone());
        let ended = self.ended.lock().unwrap();
        ShipReply { shipped: orders.into_iter().filter(|id| !ended.contains(id)).collect() }
    }

    /// From now on `order` may not leave.
    pub(crate) fn end(&self, order: OrderId) {
        self.ended.lock().unwrap().insert(order);
    }

    /// The orders of each request.
    pub(crate) fn asked(&self) -> Vec<Vec<OrderId>> {
        self.asked.lock().unwrap().clone()
    }
}
