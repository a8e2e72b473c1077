//! More happens than the streams have room for.

use futures::{StreamExt, stream};
use off_events::streams;
use off_kit::{Clock, bus};
use off_notifications_service::NotificationsService;
use off_orders_service::OrdersService;
use off_testkit::{LENTILS, Running, World, eventually_within};
use off_users_service::UsersService;
use serde_json::json;
use std::time::Duration;

const ORDERS: usize = 10_000;

/// MiB for all streams: a quarter of what these orders put into them.
const ROOM: u32 = 8;

const ARRIVE_WITHIN: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_forgets_the_oldest_messages_and_no_order() {
    let world = World::new().await;
    bus::declare(&world.nats.bus, bus::Keeping { room: ROOM, ..bus::Keeping::default() }).await.unwrap();
    let ssd = world.add_device().await;
    let users_config = off_users_service::Config { db: world.db_config(), bus: world.bus_config() };
    let users = Running::start_ready::<UsersService>(users_config, Clock::real(1.0)).await;
    let orders_config = off_orders_service::Config { db: world.db_config(), bus: world.bus_config() };
    let orders = Running::start_ready::<OrdersService>(orders_config, Clock::real(1.0)).await;
    let notifications_config = off_notifications_service::Config {
        bus: world.bus_config(),
        supplier_delay_min: Duration::ZERO,
        supplier_delay_max: Duration::ZERO,
        delivery_delay_min: Duration::ZERO,
        delivery_delay_max: Duration::ZERO,
        seed: 0,
    };
    let notifications = Running::start_ready::<NotificationsService>(notifications_config, Clock::real(1.0)).await;

    let wish = json!({"ssd_id": ssd, "barcode": LENTILS, "quantity": 1});
    let placed = stream::iter(0..ORDERS).map(|_| orders.http.post("/api/orders", &wish)).buffer_unordered(128);
    assert!(placed.all(|answer| async move { answer.status == 201 }).await);
    eventually_within(ARRIVE_WITHIN, "everything is on its shelf", || async {
        let on_the_shelf: i64 = sqlx::query_scalar("SELECT quantity::bigint FROM users.product_ssds")
            .fetch_one(&world.database.pool)
            .await
            .ok()?;
        (on_the_shelf == 10_000).then_some(())
    })
    .await;

    let mut stream = world.nats.bus.jetstream.get_stream(streams::ORDERS.name).await.unwrap();
    let state = &stream.info().await.unwrap().state;
    assert!(state.bytes <= u64::from(ROOM) * 1024 * 1024, "it holds {} bytes", state.bytes);
    assert!(state.first_sequence > 1, "it has forgotten nothing");
    for service in [notifications, orders, users] {
        service.stop().await;
    }
}
