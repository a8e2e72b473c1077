//! Cancelling orders.

use crate::{Orders, cancel, id_of};
use futures::{StreamExt, future::join_all, stream};
use off_events::{Order, OrderId, OrderStatus, streams};
use off_kit::Clock;
use off_testkit::{LENTILS, World, eventually};
use serde_json::{Value, json};
use std::collections::HashSet;

/// The ids of the orders whose cancellation was published, one per message.
async fn cancelled(orders: &Orders, count: usize) -> Vec<OrderId> {
    let messages = orders.world.nats.wait_for_messages(streams::ORDERS.name, Order::CANCELLED, count).await;
    messages.iter().map(|message| id_of(&serde_json::from_slice(&message.payload).unwrap())).collect()
}

#[tokio::test]
async fn a_pending_and_a_paid_order_can_be_cancelled_once() {
    let orders = Orders::start().await;
    let (pending, paid) = (orders.place(LENTILS, 1).await, orders.place(LENTILS, 2).await);
    orders.pay(&paid).await;
    orders.wait_for_status(&paid, "paid").await;
    for order in [&pending, &paid] {
        for _ in 0..3 {
            let answer = orders.cancel(order).await;
            let mut expected = order.clone();
            expected["status"] = json!("cancelled");
            assert_eq!((answer.status.as_u16(), answer.body), (200, expected));
        }
    }
    orders.assert_statuses(&pending, &["pending", "cancelled"]).await;
    orders.assert_statuses(&paid, &["pending", "paid", "cancelled"]).await;
    // The last cancellation is published after all others.
    let last = orders.place(LENTILS, 3).await;
    orders.cancel(&last).await;
    assert_eq!(cancelled(&orders, 3).await, [id_of(&pending), id_of(&paid), id_of(&last)]);

    let messages = orders.world.nats.messages(streams::ORDERS.name, Order::CANCELLED).await;
    let event: Value = serde_json::from_slice(&messages[1].payload).unwrap();
    assert_eq!(
        (&event["status"], &event["total"], &event["user_id"]),
        (&json!("cancelled"), &paid["total"], &paid["user_id"])
    );
    let headers = messages[1].headers.as_ref().unwrap();
    assert_eq!(headers.get("ce-id").unwrap().as_str(), format!("{}:cancelled", paid["id"].as_str().unwrap()));
    orders.end().await;
}

#[tokio::test]
async fn no_event_moves_a_cancelled_order() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    assert_eq!(orders.cancel(&order).await.status, 200);
    orders.refuse(&order, 99).await;
    orders.complete(&order).await;
    orders.wait_until_caught_up().await;
    orders.assert_statuses(&order, &["pending", "cancelled"]).await;
    // It was charged before the cancellation, and the event arrives late.
    orders.pay_at(&order, order["timestamp"].as_str().unwrap().parse().unwrap()).await;
    orders.wait_until_caught_up().await;
    orders.assert_statuses(&order, &["pending", "paid", "cancelled"]).await;
    assert_eq!(orders.find(&order).await.body.get("refusal"), None);
    orders.end().await;
}

#[tokio::test]
async fn an_order_that_is_shipped_completed_or_refused_cannot_be_cancelled() {
    let orders = Orders::start().await;
    let shipped = orders.place(LENTILS, 1).await;
    orders.ship(&shipped).await;
    let completed = orders.place(LENTILS, 1).await;
    orders.complete(&completed).await;
    let refused = orders.place(LENTILS, 1).await;
    orders.refuse(&refused, 1).await;
    orders.wait_until_caught_up().await;
    for (order, status) in [(&shipped, "shipped"), (&completed, "completed"), (&refused, "refused")] {
        let answer = orders.cancel(order).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (409, "not_cancellable"));
        assert!(answer.body["detail"].as_str().unwrap().contains(&format!("is {status}:")), "{answer:?}");
        orders.wait_for_status(order, status).await;
    }
    assert!(orders.world.nats.messages(streams::ORDERS.name, Order::CANCELLED).await.is_empty());
    orders.end().await;
}

#[tokio::test]
async fn an_order_of_somebody_else_cannot_be_cancelled() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    let (owner, other) = (order["user_id"].as_i64().unwrap(), orders.ssd + 1);
    for stranger in [orders.http().as_person(owner + 1), orders.http().as_device(other)] {
        let answer = cancel(&stranger, &order).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"));
    }
    assert_eq!(cancel(&orders.http().anonymous(), &order).await.status, 401);
    let unknown = json!({"id": "01890a5d-ac96-774b-bcce-b302099a8057"});
    assert_eq!(orders.cancel(&unknown).await.status, 404);
    orders.assert_statuses(&order, &["pending"]).await;
    assert_eq!(cancel(&orders.http().as_device(orders.ssd), &order).await.status, 200);
    assert_eq!(cancel(&orders.http().as_person(owner), &order).await.status, 200);
    orders.end().await;
}

#[tokio::test]
async fn a_cancellation_while_nats_is_down_is_published_later() {
    let mut orders = Orders::start_with(World::new().await, Clock::real(1.0).with_short_timeouts(10)).await;
    let order = orders.place(LENTILS, 1).await;
    orders.wait_for_announcements(1).await;
    orders.world.nats.server.kill().await.unwrap();
    orders.health().wait_until_not_ready().await;
    assert_eq!(orders.cancel(&order).await.status, 200);
    orders.world.nats.server.start_again().await.unwrap();
    assert_eq!(cancelled(&orders, 1).await[0], id_of(&order));
    orders.end().await;
}

#[tokio::test]
async fn each_order_is_either_cancelled_or_shipped() {
    const ORDERS: i64 = 200;
    let orders = Orders::start().await;
    let placed: Vec<Value> = join_all((0..ORDERS).map(|_| orders.place(LENTILS, 1))).await;
    sqlx::query("UPDATE orders.product_orders SET status = 'paid', paid_at = placed_at WHERE id > $1")
        .bind(id_of(&placed[100]).0)
        .execute(&orders.world.database.pool)
        .await
        .unwrap();
    // The cancellations begin with the first orders and the shipments with the last, so that they meet.
    let cancelling = stream::iter(&placed).map(|order| orders.cancel(order)).buffered(8).collect::<Vec<_>>();
    let shipping = async {
        let mut shipped = HashSet::new();
        for batch in placed.rchunks(5) {
            let batch: Vec<&Value> = batch.iter().collect();
            shipped.extend(orders.request_shipping(&batch, Clock::real(1.0).now()).await);
        }
        shipped
    };
    let (answers, shipped) = tokio::join!(cancelling, shipping);
    let mut ended = HashSet::new();
    for (order, answer) in placed.iter().zip(&answers) {
        let (is_shipped, is_cancelled) = (shipped.contains(&id_of(order)), answer.status == 200);
        assert!(is_shipped != is_cancelled, "{is_shipped}, {answer:?}");
        let status = if is_cancelled { OrderStatus::Cancelled } else { OrderStatus::Shipped };
        assert_eq!(orders.find(order).await.body["status"], json!(status));
        ended.extend(is_cancelled.then(|| id_of(order)));
    }
    assert!(!shipped.is_empty() && !ended.is_empty(), "they did not meet: {} shipped", shipped.len());
    let published = cancelled(&orders, ended.len()).await;
    assert_eq!(published.len(), ended.len());
    assert_eq!(published.into_iter().collect::<HashSet<_>>(), ended);
    orders.end().await;
}

#[tokio::test]
async fn a_cancelled_order_is_announced_until_it_is_refunded_and_its_letter_written() {
    let orders = Orders::start_with(World::new().await, Clock::real(1.0).with_short_timeouts(10)).await;
    let order = orders.place(LENTILS, 1).await;
    orders.cancel(&order).await;
    assert_eq!(cancelled(&orders, 2).await, [id_of(&order), id_of(&order)]);
    for statement in [
        "INSERT INTO billing.refusals VALUES ($1, 1, 'cancelled', NULL, now())",
        "INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, written_at)
         SELECT id, 'cancelled', user_id, barcode, quantity, unit_price, now() FROM orders.product_orders WHERE id = $1",
    ] {
        sqlx::query(statement).bind(id_of(&order).0).execute(&orders.world.database.pool).await.unwrap();
    }
    eventually("it is no longer late", || async {
        let late: i64 = sqlx::query_scalar("SELECT count(*) FROM orders.late_orders")
            .fetch_one(&orders.world.database.pool)
            .await
            .unwrap();
        (late == 0).then_some(())
    })
    .await;
    orders.end().await;
}
