//! Outages of Postgres and NATS, and overload.

use crate::Orders;
use chrono::TimeDelta;
use futures::{StreamExt, future::ready, stream::FuturesUnordered};
use off_events::streams;
use off_kit::{
    Clock,
    bus::{self, StreamStorage},
};
use off_orders_service::{Config, OrdersService};
use off_testkit::{LENTILS, Running, World, eventually};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn while_postgres_is_down_orders_are_rejected_and_events_wait() {
    let mut orders = Orders::start_in(World::with_own_postgres().await).await;
    let order = orders.place(LENTILS, 1).await;
    orders.world.database.server.as_mut().unwrap().stop().await.unwrap();
    orders.pay(&order).await;
    let rejected = orders.http().post("/api/orders", &orders.order_body(LENTILS, 1)).await;
    assert_eq!((rejected.status.as_u16(), rejected.code()), (503, "unavailable"));
    assert_eq!(rejected.header("retry-after"), "2");
    orders.health().wait_until_not_ready().await;
    assert_eq!(orders.health().get("/livez").await.status, 200);

    orders.world.database.server.as_mut().unwrap().start_again().await.unwrap();
    orders.wait_until_caught_up().await;
    orders.assert_statuses(&order, &["pending", "paid"]).await;
    orders.health().wait_until_ready().await;
    orders.end().await;
}

#[tokio::test]
async fn connections_to_a_vanished_postgres_are_replaced() {
    let orders = Orders::start_with(World::with_own_postgres().await, Clock::real(1.0).with_short_timeouts(10)).await;
    let order = orders.place(LENTILS, 1).await;
    orders.pay(&order).await;
    orders.wait_until_caught_up().await;
    let frozen = orders.world.database.freeze_sessions("off-orders").await;
    assert!(frozen.count() > 1, "{frozen:?}");

    orders.complete(&order).await;
    let lost = orders.http().post("/api/orders", &orders.order_body(LENTILS, 1)).await;
    assert_eq!((lost.status.as_u16(), lost.code()), (503, "unavailable"));
    eventually("orders are placed again", || async {
        let answer = orders.http().post("/api/orders", &orders.order_body(LENTILS, 1)).await;
        (answer.status == 201).then_some(())
    })
    .await;
    orders.wait_for_status(&order, "completed").await;
    orders.health().wait_until_ready().await;
    sqlx::query(
        "INSERT INTO orders.late_orders SELECT id, now(), 0, true FROM orders.product_orders WHERE status = 'pending'
         ON CONFLICT (order_id) DO UPDATE SET unpublished = true, check_at = now()",
    )
    .execute(&orders.world.database.pool)
    .await
    .unwrap();
    orders.wait_until_all_are_published().await;
    drop(frozen);
    orders.end().await;
}

#[tokio::test]
async fn a_statement_that_times_out_also_ends_in_postgres_and_stores_nothing() {
    let orders = Orders::start_with(World::new().await, Clock::real(1.0).with_short_timeouts(6)).await;
    let mut lock = orders.world.database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE orders.product_orders IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let rejected = orders.http().post("/api/orders", &orders.order_body(LENTILS, 1)).await;
    assert_eq!((rejected.status.as_u16(), rejected.code()), (503, "unavailable"));
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND state = 'active' AND query LIKE '%INSERT INTO orders.product_orders%'
                     AND pid <> pg_backend_pid()";
    let count = async || sqlx::query_scalar::<_, i64>(waiting).fetch_one(&orders.world.database.pool).await.unwrap();
    assert_eq!(count().await, 1);
    eventually("the statement ends", || async { (count().await == 0).then_some(()) }).await;
    lock.rollback().await.unwrap();
    orders.place(LENTILS, 1).await;
    assert_eq!(orders.count_orders().await, 1);
    orders.end().await;
}

#[tokio::test]
async fn orders_beyond_the_intake_queue_get_503_with_retry_after() {
    let orders = Orders::start().await;
    // The lock blocks every insert.
    let mut lock = orders.world.database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE orders.product_orders IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let order_body = orders.order_body(LENTILS, 1);
    let mut answers: FuturesUnordered<_> = (0..1500).map(|_| orders.http().post("/api/orders", &order_body)).collect();
    // The queue holds as many orders as one transaction. All others are answered while these wait.
    for _ in 0..1500 - 512 {
        let answer = answers.next().await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.code(), answer.header("retry-after")), (503, "unavailable", "2"));
    }
    lock.rollback().await.unwrap();
    let placed = answers.filter(|answer| ready(answer.status == 201)).count().await;
    assert_eq!(placed, 512, "all queued orders are placed");
    assert_eq!(orders.count_orders().await, i64::try_from(placed).unwrap());
    orders.end().await;
}

#[tokio::test]
async fn while_nats_is_down_orders_are_accepted_and_published_later() {
    let mut orders = Orders::start().await;
    orders.world.nats.server.kill().await.unwrap();
    orders.health().wait_until_not_ready().await;
    let order = orders.place(LENTILS, 1).await;
    assert_eq!(orders.find(&order).await.status, 200);
    eventually("it is recorded", || async { (orders.count_unpublished().await == 1).then_some(()) }).await;
    orders.world.nats.server.start_again().await.unwrap();
    orders.wait_until_all_are_published().await;
    assert_eq!(orders.wait_for_announcements(1).await.len(), 1);
    orders.end().await;
}

#[tokio::test]
async fn readyz_names_a_deleted_consumer_or_stream_until_it_is_recreated() {
    let orders = Orders::start().await;
    let jetstream = &orders.world.nats.bus.jetstream;
    let checks = async || {
        let readiness = orders.health().get("/readyz").await;
        assert_eq!(readiness.status.is_success(), readiness.body["ready"] == true);
        readiness.body["checks"].clone()
    };
    jetstream.delete_consumer_from_stream(streams::ORDERS_PAID.name, streams::ORDERS.name).await.unwrap();
    let missing = "consumer orders-paid of stream ORDERS is missing: run `off migrate`";
    eventually("the consumer is named", || async { (checks().await["orders-paid"] == missing).then_some(()) }).await;
    jetstream.delete_stream(streams::ORDERS.name).await.unwrap();
    eventually("the stream is named", || async {
        checks().await["nats"].as_str()?.contains("stream ORDERS: it is missing: run `off migrate`").then_some(())
    })
    .await;

    bus::declare(&orders.world.nats.bus, StreamStorage::default()).await.unwrap();
    orders.health().wait_until_ready().await;
    let order = orders.place(LENTILS, 1).await;
    orders.pay(&order).await;
    orders.wait_for_status(&order, "paid").await;
    orders.end().await;
}

#[tokio::test]
async fn orders_that_the_broker_does_not_acknowledge_cause_a_warning() {
    let (clock, mover) = Clock::movable(1.0);
    let orders = Orders::start_with(World::new().await, clock.with_short_timeouts(20)).await;
    orders.world.nats.bus.jetstream.delete_stream(streams::ORDERS.name).await.unwrap();
    orders.place(LENTILS, 1).await;
    eventually("it is recorded", || async { (orders.count_unpublished().await == 1).then_some(()) }).await;
    let find_warning = async || {
        let readiness = orders.health().get("/readyz").await;
        readiness.body["warnings"]["unpublished"].as_str().map(str::to_owned)
    };
    assert_eq!(find_warning().await, None);
    mover.move_by(TimeDelta::minutes(1));
    let warning = eventually("there is a warning", find_warning).await;
    assert!(warning.contains("1 orders wait") && warning.contains("the oldest for"), "{warning}");

    bus::declare(&orders.world.nats.bus, StreamStorage::default()).await.unwrap();
    orders.wait_until_all_are_published().await;
    orders.end().await;
}

#[tokio::test]
async fn it_starts_without_postgres_and_nats_and_becomes_ready_later() {
    let mut world = World::with_own_postgres().await;
    let ssd = world.add_device().await;
    world.database.server.as_mut().unwrap().stop().await.unwrap();
    world.nats.server.kill().await.unwrap();
    let config = Config::new(world.db_config(), world.bus_config(), Duration::ZERO);
    let service = Running::start::<OrdersService>(config, Clock::real(1.0)).await;
    assert_eq!(service.health.get("/livez").await.status, 200);
    let readiness = service.health.get("/readyz").await;
    assert_eq!((readiness.status.as_u16(), &readiness.body["checks"]["nats"]), (503, &"not connected".into()));
    assert_ne!(readiness.body["checks"]["postgres"], "ok");

    world.database.server.as_mut().unwrap().start_again().await.unwrap();
    world.nats.server.start_again().await.unwrap();
    service.health.wait_until_ready().await;
    let order_body = json!({"ssd_id": ssd, "barcode": LENTILS, "quantity": 1});
    assert_eq!(service.http.post("/api/orders", &order_body).await.status, 201);
    world.end_after(vec![service], &[]).await;
}
