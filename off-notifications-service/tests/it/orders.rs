//! Orders are shipped and completed.

use crate::{new_order, place_order, publish, start, wait_for_messages};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use off_events::Order;
use off_kit::{Clock, bus::OutboundMessage};
use off_testkit::TestNats;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Announces a pending order again, as recovery does.
async fn announce_again(nats: &TestNats, order: &Value, placed_at: DateTime<Utc>) {
    let order: Order = serde_json::from_value(order.clone()).unwrap();
    let message = OutboundMessage::of("orders", &order, placed_at, None).unwrap();
    nats.bus.publish(message.with_new_dedup_id(Clock::real(1.0).now())).await.unwrap();
}

async fn delete_messages(nats: &TestNats) {
    nats.bus.jetstream.get_stream("ORDERS").await.unwrap().purge().await.unwrap();
}

#[tokio::test]
async fn an_order_is_shipped_and_then_completed() {
    let nats = TestNats::new().await;
    let service = start(&nats, Duration::from_millis(300)).await;
    let order = place_order(&nats).await;
    let completed = wait_for_messages(&nats, "orders.completed", 1).await.remove(0);
    let shipped = wait_for_messages(&nats, "orders.shipped", 1).await.remove(0);
    for (body, status) in [(&shipped, "shipped"), (&completed, "completed")] {
        let mut expected = order.clone();
        expected["status"] = json!(status);
        assert_eq!(*body, expected);
    }
    let messages = nats.bus.read("ORDERS", "orders.shipped", 1).await.unwrap();
    let headers = messages[0].headers.as_ref().unwrap();
    assert_eq!(headers.get("ce-id").unwrap().as_str(), format!("{}:shipped", order["id"].as_str().unwrap()));
    assert_eq!(headers.get("ce-source").unwrap().as_str(), "/notifications");
    service.stop().await;
}

#[tokio::test]
async fn a_core_nats_subscriber_receives_every_status_change() {
    let nats = TestNats::new().await;
    let mut messages = nats.bus.client.subscribe("orders.*").await.unwrap();
    nats.bus.client.flush().await.unwrap();
    let _service = start(&nats, Duration::from_millis(300)).await;
    place_order(&nats).await;
    for subject in ["orders.pending", "orders.shipped", "orders.completed"] {
        let message = timeout(Duration::from_secs(10), messages.next()).await.expect(subject).unwrap();
        assert_eq!(message.subject.as_str(), subject);
    }
}

#[tokio::test]
async fn an_order_without_a_wait_is_completed_at_once() {
    let nats = TestNats::new().await;
    let _service = start(&nats, Duration::ZERO).await;
    place_order(&nats).await;
    wait_for_messages(&nats, "orders.completed", 1).await;
}

#[tokio::test]
async fn an_order_that_is_announced_twice_is_shipped_once() {
    let nats = TestNats::new().await;
    let _service = start(&nats, Duration::from_millis(500)).await;
    let order = place_order(&nats).await;
    publish(&nats, "orders.pending", &order).await;
    wait_for_messages(&nats, "orders.completed", 1).await;
    assert_eq!(wait_for_messages(&nats, "orders.shipped", 1).await.len(), 1);
}

#[tokio::test]
async fn a_reannounced_order_is_not_dropped_as_a_duplicate() {
    let nats = TestNats::new().await;
    let _service = start(&nats, Duration::from_millis(300)).await;
    let order = place_order(&nats).await;
    wait_for_messages(&nats, "orders.completed", 1).await;
    // The first is overdue and is announced at once; the second is scheduled.
    for age in [Duration::from_secs(9), Duration::ZERO] {
        delete_messages(&nats).await;
        announce_again(&nats, &order, Clock::real(1.0).now() - age).await;
        wait_for_messages(&nats, "orders.completed", 1).await;
    }
}

#[tokio::test]
async fn a_wait_is_bounded_even_if_the_clock_of_the_sender_is_wrong() {
    let nats = TestNats::new().await;
    let _service = start(&nats, Duration::from_millis(300)).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("ce-time", (Clock::real(1.0).now() + chrono::TimeDelta::days(400)).to_rfc3339().as_str());
    let body = new_order().to_string().into();
    let sent = nats.bus.jetstream.publish_with_headers("orders.pending", headers, body).await.unwrap();
    sent.await.unwrap();
    wait_for_messages(&nats, "orders.completed", 1).await;
}
