//! Requests to ship orders.

use crate::{Orders, id_of};
use futures::future::join_all;
use off_events::{ReadyToShip, ShipReply, ShipRequest};
use off_kit::Clock;
use off_testkit::{LENTILS, World};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn only_orders_that_may_leave_are_shipped() {
    let orders = Orders::start().await;
    let placed = [1, 2, 3, 4, 5].map(|quantity| orders.place(LENTILS, quantity));
    let placed: Vec<Value> = join_all(placed).await;
    let [pending, paid, cancelled, refused, completed] = [0, 1, 2, 3, 4].map(|index| &placed[index]);
    orders.pay(paid).await;
    orders.cancel(cancelled).await;
    orders.refuse(refused, 1).await;
    orders.complete(completed).await;
    orders.wait_until_caught_up().await;
    let unknown = json!({"id": "01890a5d-ac96-774b-bcce-b302099a8057"});
    let mut asked: Vec<&Value> = placed.iter().collect();
    asked.extend([&unknown, paid]);
    // A repeated request is answered in the same way.
    for _ in 0..2 {
        let shipped = orders.request_shipping(&asked, Clock::real(1.0).now()).await;
        assert_eq!(shipped, [pending, paid, completed, paid].map(id_of));
    }
    orders.assert_statuses(pending, &["pending", "shipped"]).await;
    orders.assert_statuses(paid, &["pending", "paid", "shipped"]).await;
    orders.assert_statuses(cancelled, &["pending", "cancelled"]).await;
    orders.assert_statuses(refused, &["pending", "refused"]).await;
    orders.assert_statuses(completed, &["pending", "shipped", "completed"]).await;
    orders.end().await;
}

#[tokio::test]
async fn a_repeated_request_keeps_the_first_time() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    orders.ship(&order).await;
    let first = orders.find(&order).await.body["history"].clone();
    orders.ship(&order).await;
    assert_eq!(orders.find(&order).await.body["history"], first);
    orders.end().await;
}

#[tokio::test]
async fn an_unreadable_request_gets_no_reply_and_blocks_nothing() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    let client = &orders.world.nats.bus.client;
    for body in ["", "not json", "[]", r#"{"orders": [1]}"#] {
        let reply = timeout(Duration::from_millis(200), client.request(ShipRequest::SUBJECT, body.into())).await;
        assert!(reply.is_err(), "{body}: {reply:?}");
    }
    orders.ship(&order).await;
    orders.end().await;
}

#[tokio::test]
async fn while_postgres_is_down_no_order_is_shipped() {
    let world = World::with_own_postgres().await;
    let mut orders = Orders::start_with(world, Clock::real(1.0).with_short_timeouts(10)).await;
    let order = orders.place(LENTILS, 1).await;
    orders.world.database.server.as_mut().unwrap().stop().await.unwrap();
    let ready = vec![ReadyToShip { id: id_of(&order), at: Clock::real(1.0).now() }];
    let request = ShipRequest { orders: ready };
    let reply: anyhow::Result<ShipReply> = orders.world.nats.bus.request(ShipRequest::SUBJECT, &request).await;
    assert!(format!("{:#}", reply.unwrap_err()).contains("orders.ship was not answered"));
    orders.world.database.server.as_mut().unwrap().start_again().await.unwrap();
    orders.health().wait_until_ready().await;
    orders.ship(&order).await;
    orders.assert_statuses(&order, &["pending", "shipped"]).await;
    orders.end().await;
}
