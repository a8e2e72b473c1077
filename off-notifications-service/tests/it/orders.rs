//! Orders are shipped and completed.

use crate::{
    Notifications, announce, new_order, orders_stand_in::OrdersStandIn, pay_order, start_service, world_with_person,
};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use off_events::{Order, OrderDue, OrderId, headers::CE_TIME, streams};
use off_kit::{Clock, bus::OutboundMessage};
use off_testkit::{Leftover, TestNats, eventually};
use serde_json::{Value, json};
use std::{collections::HashSet, time::Duration};
use tokio::time::timeout;

/// Announces a paid order again, as recovery does.
async fn announce_again(nats: &TestNats, order: &Value, paid_at: DateTime<Utc>) {
    let order: Order = serde_json::from_value(order.clone()).unwrap();
    let message = OutboundMessage::of("orders", &order, paid_at, None).unwrap();
    nats.bus.publish(message.with_new_dedup_id(Clock::real(1.0).now())).await.unwrap();
}

/// The id of an order from its body.
fn id_of(order: &Value) -> OrderId {
    serde_json::from_value(order["id"].clone()).unwrap()
}

#[tokio::test]
async fn an_order_is_shipped_and_then_completed() {
    let notifications = Notifications::start(Duration::from_millis(300)).await;
    let order = notifications.pay_order().await;
    let completed = notifications.wait_for_completed(1).await.remove(0);
    let shipped = notifications.wait_for_shipped(1).await.remove(0);
    for (body, status) in [(&shipped, "shipped"), (&completed, "completed")] {
        let mut expected = order.clone();
        expected["status"] = json!(status);
        assert_eq!(*body, expected);
    }
    let messages = notifications.nats().messages(streams::ORDERS.name, Order::SHIPPED).await;
    let headers = messages[0].headers.as_ref().unwrap();
    assert_eq!(headers.get("ce-id").unwrap().as_str(), format!("{}:shipped", order["id"].as_str().unwrap()));
    assert_eq!(headers.get("ce-source").unwrap().as_str(), "/notifications");
    notifications.end().await;
}

#[tokio::test]
async fn a_core_nats_subscriber_receives_every_status_change() {
    let world = world_with_person().await;
    let nats = &world.nats;
    let mut messages = nats.bus.client.subscribe("orders.*").await.unwrap();
    nats.bus.client.flush().await.unwrap();
    let notifications = Notifications::start_in(world, Duration::from_millis(300)).await;
    notifications.pay_order().await;
    // The request to ship it is a message of core NATS, too.
    for subject in ["orders.paid", "orders.ship", "orders.shipped", "orders.completed"] {
        let message = timeout(Duration::from_secs(10), messages.next()).await.expect(subject).unwrap();
        assert_eq!(message.subject.as_str(), subject);
    }
    notifications.end().await;
}

#[tokio::test]
async fn an_order_without_a_wait_is_completed_at_once() {
    let notifications = Notifications::start(Duration::ZERO).await;
    let order = notifications.pay_order().await;
    notifications.wait_for_completed(1).await;
    assert_eq!(notifications.orders.asked(), [[id_of(&order)]]);
    let scheduled = notifications.nats().messages(streams::ORDERS.name, OrderDue::SUBJECT).await;
    assert!(scheduled.is_empty(), "{scheduled:?}");
    notifications.end().await;
}

#[tokio::test]
async fn an_order_that_is_announced_twice_is_shipped_once() {
    let notifications = Notifications::start(Duration::from_millis(500)).await;
    let order = notifications.pay_order().await;
    announce(notifications.nats(), &order).await;
    notifications.wait_for_completed(1).await;
    assert_eq!(notifications.wait_for_shipped(1).await.len(), 1);
    notifications.end().await;
}

#[tokio::test]
async fn an_order_that_ended_while_it_waited_is_not_shipped() {
    let notifications = Notifications::start(Duration::from_millis(500)).await;
    let mut orders = Vec::new();
    for _ in 0..10 {
        orders.push(notifications.pay_order().await);
    }
    let ended = [id_of(&orders[2]), id_of(&orders[7])];
    for id in ended {
        notifications.orders.end(id);
    }
    let completed = notifications.wait_for_completed(8).await;
    let shipped = notifications.wait_for_shipped(8).await;
    assert_eq!((completed.len(), shipped.len()), (8, 8));
    assert!(shipped.iter().chain(&completed).all(|order| !ended.contains(&id_of(order))));
    // Only the end of the supplier's wait asks, and only once.
    let asked: Vec<OrderId> = notifications.orders.asked().concat();
    assert_eq!(asked.len(), 10);
    assert_eq!(asked.into_iter().collect::<HashSet<_>>(), orders.iter().map(id_of).collect());
    notifications.end().await;
}

#[tokio::test]
async fn without_the_orders_service_orders_wait_at_the_supplier() {
    let world = world_with_person().await;
    let service = start_service(&world, Duration::from_millis(300)).await;
    let nats = &world.nats;
    pay_order(nats).await;
    nats.wait_for_messages(streams::ORDERS.name, OrderDue::SUBJECT, 1).await;
    eventually("the order waits", || async {
        (nats.bus.backlog(&streams::DUE).await.ok()?.unacknowledged == 1).then_some(())
    })
    .await;
    assert!(nats.messages(streams::ORDERS.name, Order::SHIPPED).await.is_empty());
    let orders = OrdersStandIn::start(nats).await;
    let notifications = Notifications { world, orders, service };
    notifications.wait_for_completed(1).await;
    notifications.end().await;
}

#[tokio::test]
async fn a_reannounced_order_is_not_dropped_as_a_duplicate() {
    let notifications = Notifications::start(Duration::from_millis(300)).await;
    let order = notifications.pay_order().await;
    notifications.wait_for_completed(1).await;
    // The first is overdue and is announced at once; the second is scheduled.
    for age in [Duration::from_secs(9), Duration::ZERO] {
        notifications.nats().delete_messages(streams::ORDERS.name).await;
        announce_again(notifications.nats(), &order, Clock::real(1.0).now() - age).await;
        notifications.wait_for_completed(1).await;
    }
    notifications.end().await;
}

#[tokio::test]
async fn a_wait_is_bounded_even_if_the_clock_of_the_sender_is_wrong() {
    let notifications = Notifications::start(Duration::from_millis(300)).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(CE_TIME, (Clock::real(1.0).now() + chrono::TimeDelta::days(400)).to_rfc3339().as_str());
    notifications.nats().publish_with_headers(Order::PAID, headers, new_order().to_string()).await;
    notifications.wait_for_completed(1).await;
    notifications.end().await;
}

#[tokio::test]
async fn invalid_messages_become_dead_letters_and_block_nothing() {
    let notifications = Notifications::start(Duration::ZERO).await;
    notifications.nats().publish(Order::PAID, &json!("lentils")).await;
    notifications.nats().publish(Order::SHIPPED, &json!({"status": "shipped"})).await;
    notifications.pay_order().await;
    notifications.wait_for_completed(1).await;
    // The supplier and the letters each reject the first, the delivery firm the second.
    assert_eq!(notifications.nats().wait_for_dead_letters(3).await.len(), 3);
    notifications.end_leaving(&[Leftover::DeadLetters]).await;
}
