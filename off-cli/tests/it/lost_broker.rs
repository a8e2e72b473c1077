//! The broker's disk is lost while thousands of orders are on their way.

use crate::services::Services;
use futures::StreamExt;
use off_testkit::{World, eventually_within};
use std::time::Duration;

const ORDERS: usize = 10_000;

/// How long everything may take to come to its end: what is lost is found within seconds, and then announced again.
const END_WITHIN: Duration = Duration::from_secs(90);

async fn count(world: &World, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&world.database.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_waiting_orders_outlive_the_loss_of_the_brokers_disk() {
    let mut world = World::new().await;
    let ssd = world.add_device().await;
    // Long enough that all of them wait when the disk is lost, and short enough that they are due when that is noticed.
    let services = Services::start(&world, Duration::from_secs(45)).await;

    services.place(ssd, ORDERS).await;
    eventually_within(END_WITHIN, "every order waits at its supplier", || async {
        let stream = world.nats.bus.jetstream.get_stream_no_info("ORDERS").await.ok()?;
        let waits = stream.info_with_subjects("orders.timer.shipped.*").await.ok()?.count().await;
        (waits == ORDERS).then_some(())
    })
    .await;
    assert_eq!(count(&world, "SELECT count(*) FROM orders.product_orders WHERE status = 'pending'").await, 10_000);

    world.nats.lose_everything().await;
    eventually_within(END_WITHIN, "every order has arrived", || async {
        let on_their_way = "SELECT count(*) FROM orders.product_orders WHERE status <> 'completed'";
        (count(&world, on_their_way).await == 0).then_some(())
    })
    .await;
    eventually_within(END_WITHIN, "everything is on its shelf", || async {
        (count(&world, "SELECT count(*) FROM users.deliveries").await == 10_000).then_some(())
    })
    .await;
    assert_eq!(count(&world, "SELECT quantity::bigint FROM users.product_ssds").await, 10_000);
    services.stop().await;
}
