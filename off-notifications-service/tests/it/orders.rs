//! Orders are shipped and completed.

use crate::{Notifications, announce, new_order};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use off_events::{Order, headers::CE_TIME, streams};
use off_kit::{Clock, bus::OutboundMessage};
use off_testkit::{Leftover, TestNats};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Announces a pending order again, as recovery does.
async fn announce_again(nats: &TestNats, order: &Value, placed_at: DateTime<Utc>) {
    let order: Order = serde_json::from_value(order.clone()).unwrap();
    let message = OutboundMessage::of("orders", &order, placed_at, None).unwrap();
    nats.bus.publish(message.with_new_dedup_id(Clock::real(1.0).now())).await.unwrap();
}

#[tokio::test]
async fn an_order_is_shipped_and_then_completed() {
    let notifications = Notifications::start(Duration::from_millis(300)).await;
    let order = notifications.place_order().await;
    let completed = notifications.wait_for_completed(1).await.remove(0);
    let shipped = notifications.wait_for_shipped(1).await.remove(0);
    for (body, status) in [(&shipped, "shipped"), (&completed, "completed")] {
        let mut expected = order.clone();
        expected["status"] = json!(status);
        assert_eq!(*body, expected);
    }
    let messages = notifications.nats.messages(streams::ORDERS.name, Order::SHIPPED).await;
    let headers = messages[0].headers.as_ref().unwrap();
    assert_eq!(headers.get("ce-id").unwrap().as_str(), format!("{}:shipped", order["id"].as_str().unwrap()));
    assert_eq!(headers.get("ce-source").unwrap().as_str(), "/notifications");
    notifications.end().await;
}

#[tokio::test]
async fn a_core_nats_subscriber_receives_every_status_change() {
    let nats = TestNats::new().await;
    let mut messages = nats.bus.client.subscribe("orders.*").await.unwrap();
    nats.bus.client.flush().await.unwrap();
    let notifications = Notifications::start_on(nats, Duration::from_millis(300)).await;
    notifications.place_order().await;
    for subject in ["orders.pending", "orders.shipped", "orders.completed"] {
        let message = timeout(Duration::from_secs(10), messages.next()).await.expect(subject).unwrap();
        assert_eq!(message.subject.as_str(), subject);
    }
    notifications.end().await;
}

#[tokio::test]
async fn an_order_without_a_wait_is_completed_at_once() {
    let notifications = Notifications::start(Duration::ZERO).await;
    notifications.place_order().await;
    notifications.wait_for_completed(1).await;
    notifications.end().await;
}

#[tokio::test]
async fn an_order_that_is_announced_twice_is_shipped_once() {
    let notifications = Notifications::start(Duration::from_millis(500)).await;
    let order = notifications.place_order().await;
    announce(&notifications.nats, &order).await;
    notifications.wait_for_completed(1).await;
    assert_eq!(notifications.wait_for_shipped(1).await.len(), 1);
    notifications.end().await;
}

#[tokio::test]
async fn a_reannounced_order_is_not_dropped_as_a_duplicate() {
    let notifications = Notifications::start(Duration::from_millis(300)).await;
    let order = notifications.place_order().await;
    notifications.wait_for_completed(1).await;
    // The first is overdue and is announced at once; the second is scheduled.
    for age in [Duration::from_secs(9), Duration::ZERO] {
        notifications.nats.delete_messages(streams::ORDERS.name).await;
        announce_again(&notifications.nats, &order, Clock::real(1.0).now() - age).await;
        notifications.wait_for_completed(1).await;
    }
    notifications.end().await;
}

#[tokio::test]
async fn a_wait_is_bounded_even_if_the_clock_of_the_sender_is_wrong() {
    let notifications = Notifications::start(Duration::from_millis(300)).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(CE_TIME, (Clock::real(1.0).now() + chrono::TimeDelta::days(400)).to_rfc3339().as_str());
    notifications.nats.publish_with_headers(Order::PENDING, headers, new_order().to_string()).await;
    notifications.wait_for_completed(1).await;
    notifications.end().await;
}

#[tokio::test]
async fn invalid_messages_become_dead_letters_and_block_nothing() {
    let notifications = Notifications::start(Duration::ZERO).await;
    notifications.nats.publish(Order::PENDING, &json!("lentils")).await;
    notifications.nats.publish(Order::SHIPPED, &json!({"status": "shipped"})).await;
    notifications.place_order().await;
    notifications.wait_for_completed(1).await;
    assert_eq!(notifications.nats.wait_for_dead_letters(2).await.len(), 2);
    notifications.end_leaving(&[Leftover::DeadLetters]).await;
}
