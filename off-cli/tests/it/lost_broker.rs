//! The broker's disk is lost while thousands of orders are on their way.

use futures::{StreamExt, stream};
use off_kit::Clock;
use off_notifications_service::NotificationsService;
use off_orders_service::OrdersService;
use off_testkit::{LENTILS, Running, World, eventually_within};
use off_users_service::UsersService;
use serde_json::json;
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
    let users_config = off_users_service::Config { db: world.db_config(), bus: world.bus_config() };
    let users = Running::start_ready::<UsersService>(users_config, Clock::real(1.0)).await;
    let orders_config = off_orders_service::Config { db: world.db_config(), bus: world.bus_config() };
    let orders = Running::start_ready::<OrdersService>(orders_config, Clock::real(1.0)).await;
    // Long enough that all of them wait when the disk is lost, and short enough that they are due when that is noticed.
    let delay = Duration::from_secs(45);
    let notifications_config = off_notifications_service::Config {
        bus: world.bus_config(),
        supplier_delay_min: delay,
        supplier_delay_max: delay,
        delivery_delay_min: Duration::ZERO,
        delivery_delay_max: Duration::ZERO,
        seed: 0,
    };
    let notifications = Running::start_ready::<NotificationsService>(notifications_config, Clock::real(1.0)).await;

    let wish = json!({"ssd_id": ssd, "barcode": LENTILS, "quantity": 1});
    let placed = stream::iter(0..ORDERS).map(|_| orders.http.post("/api/orders", &wish)).buffer_unordered(128);
    assert!(placed.all(|answer| async move { answer.status == 201 }).await);
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
    for service in [notifications, orders, users] {
        service.stop().await;
    }
}
