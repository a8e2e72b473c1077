//! What the service makes of orders that nothing moves on any more.

use crate::Orders;
use off_events::streams;
use off_kit::Clock;
use off_testkit::{LENTILS, eventually, eventually_within};
use serde_json::Value;
use std::time::Duration;

impl Orders {
    /// Loses every message and every wait of every order.
    async fn lose_all_messages(&self) {
        self.world.nats.bus.jetstream.get_stream_no_info("ORDERS").await.unwrap().purge().await.unwrap();
    }

    /// Keeps `order` waiting for its supplier, as the notifications service does.
    async fn keep_waiting(&self, order: &Value) {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Schedule", "@at 2100-01-01T00:00:00Z");
        headers.insert("Nats-Schedule-Target", "orders.shipped");
        let subject = format!("orders.timer.shipped.{}", order["id"].as_str().unwrap());
        let jetstream = &self.world.nats.bus.jetstream;
        let sent = jetstream.publish_with_headers(subject, headers, "{}".into()).await.unwrap();
        sent.await.unwrap();
    }

    /// The orders that a subject has heard of.
    async fn heard(&self, subject: &str) -> Vec<String> {
        let messages = self.world.heard("ORDERS", subject).await;
        let orders = messages.iter().map(|message| serde_json::from_slice::<Value>(&message.payload).unwrap());
        orders.map(|order| order["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Plays the readers of the other services: acknowledges all they have before them.
    async fn others_read_on(&self) {
        for consumer in [streams::SUPPLIER, streams::DELIVERY, streams::SHELVES_DELIVERED] {
            let jetstream = &self.world.nats.bus.jetstream;
            let reader: async_nats::jetstream::consumer::PullConsumer =
                jetstream.get_consumer_from_stream(consumer.name, consumer.stream).await.unwrap();
            let mut messages = reader.fetch().max_messages(1000).messages().await.unwrap();
            while let Some(message) = futures::StreamExt::next(&mut messages).await {
                message.unwrap().double_ack().await.unwrap();
            }
        }
    }
}

fn id(order: &Value) -> String {
    order["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_has_come_to_a_halt_is_announced_again_and_nothing_else_is() {
    let orders = Orders::start().await;
    let halted = orders.place(LENTILS, 1).await;
    let waiting = orders.place(LENTILS, 2).await;
    let shipped = orders.place(LENTILS, 3).await;
    let undelivered = orders.place(LENTILS, 4).await;
    let delivered = orders.place(LENTILS, 5).await;
    orders.say(&shipped, "shipped", Clock::real(1.0).now()).await;
    for order in [&undelivered, &delivered] {
        orders.say(order, "shipped", Clock::real(1.0).now()).await;
        orders.say(order, "completed", Clock::real(1.0).now()).await;
    }
    orders.caught_up().await;
    sqlx::query("INSERT INTO users.deliveries SELECT id, ssd_id, barcode, quantity, now() FROM orders.product_orders WHERE quantity = 5")
        .execute(&orders.world.database.pool)
        .await
        .unwrap();
    orders.outbox_empty().await;
    orders.lose_all_messages().await;
    orders.keep_waiting(&waiting).await;

    for (subject, order) in
        [("orders.pending", &halted), ("orders.shipped", &shipped), ("orders.completed", &undelivered)]
    {
        eventually(&format!("{subject} is said again"), || async {
            orders.others_read_on().await;
            (orders.heard(subject).await == [id(order)]).then_some(())
        })
        .await;
    }
    let message = orders.world.heard("ORDERS", "orders.pending").await.remove(0);
    let placed_at: chrono::DateTime<chrono::Utc> = halted["timestamp"].as_str().unwrap().parse().unwrap();
    let time = message.headers.as_ref().unwrap().get("ce-time").unwrap().as_str();
    assert_eq!(
        time.parse::<chrono::DateTime<chrono::Utc>>().unwrap(),
        placed_at,
        "a wait counts from the first announcement"
    );
    assert_eq!(orders.heard("orders.pending").await, [id(&halted)]);
    assert!(!orders.heard("orders.completed").await.contains(&id(&delivered)));
}

#[tokio::test]
async fn while_others_are_behind_nothing_is_said_twice() {
    let orders = Orders::start().await;
    let slow = orders.place(LENTILS, 1).await;
    orders.outbox_empty().await;
    // Nobody reads what was announced: the look for what has halted waits for them, and gives up.
    eventually_within(Duration::from_mins(1), "a look is left for another time", || async {
        let metrics = orders.http().get("/metrics").await.body;
        metrics.as_str()?.contains(r#"off_order_looks_total{outcome="left"}"#).then_some(())
    })
    .await;
    assert_eq!(orders.heard("orders.pending").await, [id(&slow)]);
    assert_eq!(orders.count_in_outbox().await, 0);
}
