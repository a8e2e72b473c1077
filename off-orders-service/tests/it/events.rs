//! The event handlers of the service.

use crate::{Orders, euros};
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use off_events::{ORDERS_NEW, ORDERS_RANDOM, Order, headers::REQUEST_ID};
use off_kit::bus::dead_letters;
use off_testkit::{Answer, LENTILS, Leftover};
use serde_json::{Value, json};
use std::collections::HashSet;

/// The time `micros` microseconds after `order` was placed.
fn after(order: &Value, micros: i64) -> DateTime<Utc> {
    order["timestamp"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap() + TimeDelta::microseconds(micros)
}

/// When the order reached each status, in microseconds after it was placed.
fn reached(found: &Answer) -> Vec<i64> {
    let history = found.body["history"].as_array().unwrap();
    let times = history.iter().map(|step| step["at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap());
    times.map(|at| (at - after(&found.body, 0)).num_microseconds().unwrap()).collect()
}

#[tokio::test]
async fn an_order_is_paid_shipped_and_completed() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    orders.pay_at(&order, after(&order, 10)).await;
    orders.wait_for_status(&order, "paid").await;
    orders.ship_at(&order, after(&order, 20)).await;
    orders.complete_at(&order, after(&order, 30)).await;
    orders.wait_until_caught_up().await;
    orders.assert_statuses(&order, &["pending", "paid", "shipped", "completed"]).await;
    assert_eq!(reached(&orders.find(&order).await), [0, 10, 20, 30]);
    orders.end().await;
}

#[tokio::test]
async fn a_status_never_moves_backwards_on_late_or_repeated_events() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    orders.complete_at(&order, after(&order, 30)).await;
    orders.wait_until_caught_up().await;
    orders.assert_statuses(&order, &["pending", "completed"]).await;
    orders.pay_at(&order, after(&order, 10)).await;
    orders.complete_at(&order, after(&order, 99)).await;
    orders.wait_until_caught_up().await;
    orders.pay_at(&order, after(&order, 97)).await;
    orders.ship_at(&order, after(&order, 20)).await;
    orders.ship_at(&order, after(&order, 98)).await;
    orders.wait_until_caught_up().await;
    orders.assert_statuses(&order, &["pending", "paid", "shipped", "completed"]).await;
    assert_eq!(reached(&orders.find(&order).await), [0, 10, 20, 30]);
    orders.end().await;
}

#[tokio::test]
async fn a_late_payment_of_a_shipped_order_only_completes_its_history() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    orders.ship_at(&order, after(&order, 20)).await;
    orders.assert_statuses(&order, &["pending", "shipped"]).await;
    orders.pay_at(&order, after(&order, 10)).await;
    orders.wait_until_caught_up().await;
    orders.assert_statuses(&order, &["pending", "paid", "shipped"]).await;
    assert_eq!(reached(&orders.find(&order).await), [0, 10, 20]);
    orders.end().await;
}

#[tokio::test]
async fn a_refused_order_shows_how_much_money_was_missing() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    orders.refuse(&order, 99).await;
    orders.wait_for_status(&order, "refused").await;
    orders.assert_statuses(&order, &["pending", "refused"]).await;
    let refusal = json!({"reason": "insufficient_funds", "missing": euros(99)});
    assert_eq!(orders.find(&order).await.body["refusal"], refusal);
    let listed = orders.http().get("/api/orders?status=refused").await;
    assert_eq!((&listed.body["orders"][0]["id"], &listed.body["orders"][0]["refusal"]), (&order["id"], &refusal));
    // No event moves it any more.
    orders.pay(&order).await;
    orders.complete(&order).await;
    orders.refuse(&order, 1).await;
    orders.wait_until_caught_up().await;
    let found = orders.find(&order).await;
    assert_eq!((&found.body["status"], &found.body["refusal"]), (&json!("refused"), &refusal));
    orders.end().await;
}

#[tokio::test]
async fn a_refusal_changes_no_order_that_is_already_further() {
    let orders = Orders::start().await;
    let (paid, shipped) = (orders.place(LENTILS, 1).await, orders.place(LENTILS, 1).await);
    orders.pay(&paid).await;
    orders.ship(&shipped).await;
    orders.wait_until_caught_up().await;
    for order in [&paid, &shipped] {
        orders.refuse(order, 99).await;
    }
    orders.wait_until_caught_up().await;
    orders.assert_statuses(&paid, &["pending", "paid"]).await;
    orders.assert_statuses(&shipped, &["pending", "shipped"]).await;
    assert_eq!(orders.find(&paid).await.body.get("refusal"), None);
    orders.end().await;
}

#[tokio::test]
async fn invalid_messages_become_dead_letters_and_block_nothing() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    let mut unknown = order.clone();
    unknown["id"] = json!("01890a5d-ac96-774b-bcce-b302099a8057");
    unknown["status"] = json!("paid");
    let mut wrong_subject = order.clone();
    wrong_subject["status"] = json!("completed");
    orders.world.nats.publish_bytes(Order::PAID, &b"\x00\xffnot json"[..]).await;
    orders.world.nats.publish(Order::PAID, &json!({"id": 1})).await;
    orders.world.nats.publish(Order::COMPLETED, &json!([])).await;
    orders.world.nats.publish(Order::PAID, &unknown).await;
    orders.world.nats.publish(Order::PAID, &wrong_subject).await;
    orders.pay_at(&order, after(&order, 10)).await;
    orders.wait_until_caught_up().await;
    orders.assert_statuses(&order, &["pending", "paid"]).await;

    let letters = orders.world.nats.wait_for_dead_letters(5).await;
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.starts_with("not readable: expected value")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.starts_with("order 01890a5d")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("but the event belongs on orders.completed")), "{reasons:?}");
    let unreadable = letters.iter().find(|letter| letter.body.starts_with(b"\x00\xff")).unwrap();
    assert_eq!((unreadable.subject.as_str(), unreadable.consumer.as_str()), ("orders.paid", "orders-paid"));
    orders.end_leaving(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn a_dead_letter_that_is_replayed_with_a_repaired_body_is_handled() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    orders.world.nats.publish_bytes(Order::PAID, "{broken").await;
    let letter = orders.world.nats.wait_for_dead_letters(1).await.remove(0);
    let mut repaired = order.clone();
    repaired["status"] = json!("paid");
    let bus = &orders.world.nats.bus;
    dead_letters::replay(bus, letter.number, Some(repaired.to_string().into())).await.unwrap();
    orders.wait_until_caught_up().await;
    orders.assert_statuses(&order, &["pending", "paid"]).await;
    orders.end().await;
}

#[tokio::test]
async fn the_same_seed_draws_the_same_product_and_never_an_obsolete_one() {
    let orders = Orders::start().await;
    let client = &orders.world.nats.bus.client;
    let draw = async |seed: u32| {
        let question = json!({"ssd_id": 1, "product_seed": seed}).to_string();
        let answer = client.request(ORDERS_RANDOM, question.into()).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        body["barcode"].as_str().unwrap().to_owned()
    };
    let mut drawn = Vec::new();
    for seed in 0..30 {
        drawn.push(draw(seed).await);
        assert_eq!(drawn.last(), Some(&draw(seed).await));
    }
    assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 3, "{drawn:?}");
    sqlx::query("UPDATE catalog.products SET obsolete = true WHERE barcode = $1")
        .bind(LENTILS)
        .execute(&orders.world.database.pool)
        .await
        .unwrap();
    for (seed, before) in (0..).zip(drawn) {
        let now = draw(seed).await;
        assert!(if before == LENTILS { now != LENTILS } else { now == before }, "{seed}: {before}, {now}");
    }
    orders.end().await;
}

#[tokio::test]
async fn every_request_for_a_random_product_is_answered() {
    let orders = Orders::start().await;
    let client = &orders.world.nats.bus.client;
    let mut answers = client.subscribe(ORDERS_NEW).await.unwrap();
    let mut drawn = HashSet::new();
    for question in 0..60 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(REQUEST_ID, format!("q{question}").as_str());
        client.publish_with_headers(ORDERS_RANDOM, headers, "".into()).await.unwrap();
        let answer = answers.next().await.unwrap();
        assert_eq!(answer.headers.unwrap().get(REQUEST_ID).unwrap().as_str(), format!("q{question}"));
        let body: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        drawn.insert(body["barcode"].as_str().unwrap().to_owned());
    }
    assert_eq!(drawn.len(), 3, "not every product was drawn in 60 draws of 3");
    orders.end().await;
}
