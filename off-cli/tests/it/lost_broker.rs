//! The broker's disk is lost while thousands of orders are on their way.

use crate::services::Services;
use futures::StreamExt;
use off_testkit::{World, eventually_within};
use std::time::Duration;

const ORDERS: usize = 10_000;

/// Timeout of each phase: lost messages are detected within seconds, and then announced again.
const PHASE_TIMEOUT: Duration = Duration::from_secs(90);

async fn count(world: &World, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&world.database.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_waiting_orders_survive_the_loss_of_the_brokers_disk() {
    let mut world = World::new().await;
    let ssd = world.add_device().await;
    // Long enough that all orders wait when the disk is lost, and short enough that they are due when that is detected.
    let services = Services::start(&world, Duration::from_secs(45)).await;

    services.place(ssd, ORDERS).await;
    eventually_within(PHASE_TIMEOUT, "every order waits at its supplier", || async {
        let stream = world.nats.bus.jetstream.get_stream_no_info("ORDERS").await.ok()?;
        let waits = stream.info_with_subjects("orders.timer.shipped.*").await.ok()?.count().await;
        (waits == ORDERS).then_some(())
    })
    .await;
    assert_eq!(count(&world, "SELECT count(*) FROM orders.product_orders WHERE status = 'pending'").await, 10_000);

    world.nats.lose_everything().await;
    eventually_within(PHASE_TIMEOUT, "every order has arrived", || async {
        let open_orders = "SELECT count(*) FROM orders.product_orders WHERE status <> 'completed'";
        (count(&world, open_orders).await == 0).then_some(())
    })
    .await;
    eventually_within(PHASE_TIMEOUT, "everything is on its shelf", || async {
        (count(&world, "SELECT count(*) FROM users.deliveries").await == 10_000).then_some(())
    })
    .await;
    assert_eq!(count(&world, "SELECT quantity::bigint FROM users.shelf_items").await, 10_000);
    services.stop().await;
}
