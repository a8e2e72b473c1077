//! Orders that are refused or cancelled: the device orders again after a pause.

use crate::{Users, order_of};
use async_nats::{HeaderMap, jetstream::Message};
use chrono::{DateTime, TimeDelta, Utc};
use off_events::{OrderStatus, headers, streams};
use off_kit::Clock;
use off_testkit::{TEA, World};
use serde_json::{Value, json};

/// At this speed the six simulated hours of the pause take two seconds.
const SPEED: f64 = 10_800.0;

impl Users {
    /// The service, with a device on whose shelf tea is low, and the message about it.
    async fn with_low_tea() -> (Self, i64, Message) {
        let users = Self::start_with(World::new().await, Clock::real(SPEED).with_short_timeouts(5)).await;
        let ssd = users.world.add_device().await;
        users.deliver(ssd, TEA, 2).await;
        let low = users.wait_for_low(1).await.remove(0);
        // Leaves only the reminders that follow from an ended order.
        sqlx::query("UPDATE users.shelf_items SET remind_at = now() + interval '1 h'")
            .execute(&users.world.database.pool)
            .await
            .unwrap();
        (users, ssd, low)
    }

    /// Publishes that an order of tea which was placed at `placed_at` ended with `status`; returns it.
    async fn end_order(&self, ssd: i64, status: OrderStatus, placed_at: DateTime<Utc>) -> Value {
        let mut order = order_of(ssd, TEA, 5, status);
        order["timestamp"] = json!(placed_at);
        self.world.nats.publish(status.subject(), &order).await;
        order
    }

    /// Waits until both consumers of ended orders have no backlog.
    async fn wait_until_ends_are_handled(&self) {
        self.world.nats.wait_until_caught_up(&streams::SHELVES_REFUSED).await;
        self.world.nats.wait_until_caught_up(&streams::SHELVES_CANCELLED).await;
    }

    /// Since when tea is low, and whether its reminder is due within a minute.
    async fn low_tea(&self) -> (DateTime<Utc>, bool) {
        sqlx::query_as("SELECT low_since, remind_at < now() + interval '1 min' FROM users.shelf_items")
            .fetch_one(&self.world.database.pool)
            .await
            .unwrap()
    }
}

/// The `ce-id` of a message: the device uses it as the idempotency key of its order.
fn id_of(message: &Message) -> String {
    message.headers.as_ref().and_then(|headers: &HeaderMap| headers.get(headers::CE_ID)).unwrap().to_string()
}

/// When the product of a `stock.low` message became low.
fn low_since(message: &Message) -> DateTime<Utc> {
    serde_json::from_slice::<Value>(&message.payload).unwrap()["timestamp"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn after_a_refused_or_cancelled_order_the_product_is_low_anew() {
    for status in [OrderStatus::Refused, OrderStatus::Cancelled] {
        let (users, ssd, first) = Users::with_low_tea().await;
        let ended_at = Clock::real(1.0).now();
        users.end_order(ssd, status, low_since(&first) + TimeDelta::milliseconds(1)).await;
        let again = users.wait_for_low(2).await.remove(1);
        assert_ne!(id_of(&again), id_of(&first), "another order needs another idempotency key");
        assert!(low_since(&again) >= ended_at);
        let body: Value = serde_json::from_slice(&again.payload).unwrap();
        assert_eq!((&body["ssd_id"], &body["barcode"], &body["quantity"]), (&json!(ssd), &json!(TEA), &json!(2)));
        let waited = Clock::real(1.0).now() - ended_at;
        assert!(waited >= TimeDelta::seconds(2), "six simulated hours are 2 s here, not {waited}");
        users.end().await;
    }
}

#[tokio::test]
async fn a_repeated_end_of_an_order_changes_nothing() {
    let (users, ssd, first) = Users::with_low_tea().await;
    let order = users.end_order(ssd, OrderStatus::Refused, low_since(&first) + TimeDelta::milliseconds(1)).await;
    users.wait_until_ends_are_handled().await;
    let once = users.low_tea().await;
    assert!(once.0 > low_since(&first) && once.1, "{once:?}");
    for _ in 0..2 {
        users.world.nats.publish(OrderStatus::Refused.subject(), &order).await;
    }
    users.wait_until_ends_are_handled().await;
    assert_eq!(users.low_tea().await, once);
    users.end().await;
}

#[tokio::test]
async fn an_order_of_an_earlier_low_period_changes_nothing() {
    let (users, ssd, first) = Users::with_low_tea().await;
    let before = users.low_tea().await;
    for status in [OrderStatus::Refused, OrderStatus::Cancelled] {
        users.end_order(ssd, status, low_since(&first) - TimeDelta::milliseconds(1)).await;
    }
    users.wait_until_ends_are_handled().await;
    assert_eq!(users.low_tea().await, before);
    users.end().await;
}

#[tokio::test]
async fn an_order_of_a_product_that_is_not_low_or_unknown_changes_nothing() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.deliver(ssd, TEA, 9).await;
    users.assert_shelf_holds(ssd, TEA, 9).await;
    for ssd in [ssd, 999] {
        users.end_order(ssd, OrderStatus::Cancelled, Clock::real(1.0).now()).await;
    }
    users.wait_until_ends_are_handled().await;
    let is_low: bool =
        sqlx::query_scalar("SELECT low_since IS NOT NULL OR remind_at IS NOT NULL FROM users.shelf_items")
            .fetch_one(&users.world.database.pool)
            .await
            .unwrap();
    assert!(!is_low);
    users.end().await;
}
