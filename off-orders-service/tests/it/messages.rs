//! The messages of an order, read from its stream.

use crate::Orders;
use futures::future::join_all;
use off_events::{
    Order, OrderDue, OrderStatus,
    headers::{CE_ID, NATS_SCHEDULE, NATS_SCHEDULE_TARGET},
    streams,
};
use off_kit::Clock;
use off_testkit::LENTILS;
use serde_json::{Value, json};

impl Orders {
    async fn messages(&self, order: &Value) -> Value {
        let answer = self.http().get(&format!("/api/orders/{}/messages", order["id"].as_str().unwrap())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["messages"].clone()
    }
}

fn subjects(messages: &Value) -> Vec<&str> {
    messages.as_array().unwrap().iter().map(|message| message["subject"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_messages_of_an_order_are_found_among_those_of_many_others() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    let others = join_all((0..10).map(|_| orders.place(LENTILS, 1))).await;
    orders.wait_for_announcements(11).await;
    // More than one batch of other messages comes first.
    for _ in 0..60 {
        join_all(others.iter().map(|other| orders.publish(other, OrderStatus::Paid, Clock::real(1.0).now()))).await;
    }
    // The clock of the broker may be ahead of that of who publishes.
    orders.pay_at(&order, Clock::real(1.0).now() - chrono::TimeDelta::seconds(1)).await;
    orders.wait_for_status(&order, "paid").await;
    orders.ship(&order).await;
    orders.complete(&order).await;
    orders.wait_for_status(&order, "completed").await;

    let messages = orders.messages(&order).await;
    assert_eq!(subjects(&messages), [Order::PENDING, Order::PAID, Order::COMPLETED], "{messages}");
    let pending = &messages[0];
    assert_eq!((&pending["stream"], &pending["data"]["id"]), (&json!(streams::ORDERS.name), &order["id"]));
    assert_eq!(pending["headers"]["ce-id"], format!("{}:pending", order["id"].as_str().unwrap()));
    assert!(pending["headers"]["traceparent"].is_string() && pending["headers"].get("Nats-Sequence").is_none());
    assert!(pending["sequence"].as_u64().unwrap() < messages[1]["sequence"].as_u64().unwrap());
    orders.end().await;
}

#[tokio::test]
async fn a_wait_that_goes_on_and_one_that_is_over_are_among_them() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    orders.wait_for_announcements(1).await;
    orders.pay(&order).await;
    orders.wait_for_status(&order, "paid").await;
    let id = order["id"].as_str().unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(CE_ID, format!("{id}:shipped:due").as_str());
    headers.insert(NATS_SCHEDULE, "@at 2100-01-01T00:00:00Z");
    headers.insert(NATS_SCHEDULE_TARGET, OrderDue::SUBJECT);
    let schedule = OrderStatus::Shipped.schedule_subject(crate::id_of(&order));
    orders.world.nats.publish_with_headers(schedule.clone(), headers.clone(), order.to_string()).await;
    assert_eq!(subjects(&orders.messages(&order).await), [Order::PENDING, Order::PAID, &schedule]);

    orders.ship(&order).await;
    headers = async_nats::HeaderMap::new();
    headers.insert(CE_ID, format!("{id}:shipped:due").as_str());
    orders.world.nats.publish_with_headers(OrderDue::SUBJECT, headers, order.to_string()).await;
    assert_eq!(subjects(&orders.messages(&order).await), [Order::PENDING, Order::PAID, OrderDue::SUBJECT]);
    orders.end().await;
}

#[tokio::test]
async fn nobody_reads_the_messages_of_others_and_lost_ones_are_missing() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    orders.wait_for_announcements(1).await;
    let path = format!("/api/orders/{}/messages", order["id"].as_str().unwrap());
    assert_eq!(orders.http().as_person(999_999).get(&path).await.status, 404);
    assert_eq!(orders.http().anonymous().get(&path).await.status, 401);
    let stream = orders.world.nats.bus.jetstream.get_stream(streams::ORDERS.name).await.unwrap();
    stream.purge().await.unwrap();
    assert_eq!(orders.messages(&order).await, json!([]));
    orders.end().await;
}

#[tokio::test]
async fn orders_are_counted_by_status_for_everybody() {
    let orders = Orders::start().await;
    let placed = join_all((0..5).map(|_| orders.place(LENTILS, 1))).await;
    orders.pay(&placed[0]).await;
    orders.pay(&placed[1]).await;
    orders.refuse(&placed[2], 5).await;
    for (order, status) in [(&placed[0], "paid"), (&placed[1], "paid"), (&placed[2], "refused")] {
        orders.wait_for_status(order, status).await;
    }
    orders.ship(&placed[1]).await;
    let expected = json!({"placed": 5, "pending": 2, "paid": 1, "shipped": 1, "ended": 1});
    off_testkit::eventually("all are counted", || async {
        let counts = orders.http().anonymous().get("/api/orders/counts").await;
        (counts.status == 200 && counts.body == expected).then_some(())
    })
    .await;
    orders.end().await;
}
