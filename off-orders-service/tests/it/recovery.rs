//! Recovery of overdue and unpublished orders.

use crate::{Orders, config, euros, freezable::FreezableReplica};
use chrono::{DateTime, TimeDelta, Utc};
use off_events::{
    Order, OrderDue, OrderStatus,
    headers::{ANNOUNCED_AGAIN, CE_TIME, NATS_SCHEDULE, NATS_SCHEDULE_TARGET},
    streams,
};
use off_kit::Clock;
use off_orders_service::OrdersService;
use off_testkit::{LENTILS, Leftover, Running, World, eventually, eventually_within};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use uuid::Uuid;

/// An order row as an earlier run of the service left it.
struct Row {
    status: &'static str,
    /// When it was placed, in seconds from now; negative is in the past.
    placed_in: i32,
    /// The deadline of its next step, in seconds from now.
    due_in: i32,
    delivered: bool,
    /// Whether its money is earned or refunded, or will never be charged.
    settled: bool,
    /// Whether its last letter is written.
    closed: bool,
}

/// Shipped, because the start of a service publishes recent pending orders, whether they are overdue or not.
const OVERDUE: Row =
    Row { status: "shipped", placed_in: -3600, due_in: -3000, delivered: false, settled: false, closed: true };

/// An order so much newer than [`OVERDUE`] that the start does not publish pending ones from that time.
const NEWEST: Row =
    Row { status: "completed", placed_in: -60, due_in: -60, delivered: true, settled: true, closed: true };

impl Row {
    async fn insert(&self, world: &World) -> Uuid {
        let millis = (Clock::real(1.0).now() + TimeDelta::seconds(self.placed_in.into())).timestamp_millis();
        let random = Uuid::new_v4().as_u128() & ((1 << 80) - 1);
        let id = Uuid::from_u128(u128::try_from(millis).unwrap() << 80 | random);
        sqlx::query(
            "WITH placed AS (
                 INSERT INTO orders.product_orders
                     (id, ssd_id, user_id, barcode, quantity, unit_price, status, placed_at, paid_at, shipped_at,
                      completed_at, ended_at, deadline)
                 SELECT $1, 1, 1, $2, 1, 299, status, at, CASE WHEN status BETWEEN 'paid' AND 'completed' THEN at END,
                        CASE WHEN status BETWEEN 'shipped' AND 'completed' THEN at END,
                        CASE WHEN status = 'completed' THEN at END, CASE WHEN status > 'completed' THEN at END,
                        now() + make_interval(secs => $5)
                 FROM (SELECT $3::orders.order_status AS status, now() + make_interval(secs => $4) AS at) AS given
                 RETURNING id, status
             ), delivered AS (
                 INSERT INTO users.deliveries SELECT id, 1, $2, 1, now() FROM placed WHERE $6
             ), closed AS (
                 INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, missing, written_at)
                 SELECT id, CASE status WHEN 'completed' THEN 'delivered' ELSE status::text END::letters.letter_kind, 1, $2,
                        1, 299, CASE status WHEN 'refused' THEN 1 END, now()
                 FROM placed WHERE $8 AND status >= 'completed'
             ), refused AS (
                 INSERT INTO billing.refusals SELECT id, 1, 'insufficient_funds', 1, now() FROM placed
                 WHERE $7 AND status = 'refused'
             )
             INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
             SELECT id, kind, -1, CASE kind WHEN 'refund' THEN 1 ELSE -2 END, 299, now()
             FROM placed, LATERAL (SELECT CASE status WHEN 'cancelled' THEN 'refund' ELSE 'earning' END::billing.transfer_kind
                                          AS kind) AS ended
             WHERE $7 AND status <> 'refused'",
        )
        .bind(id)
        .bind(LENTILS)
        .bind(self.status)
        .bind(f64::from(self.placed_in))
        .bind(f64::from(self.due_in))
        .bind(self.delivered)
        .bind(self.settled)
        .bind(self.closed)
        .execute(&world.database.pool)
        .await
        .unwrap();
        id
    }
}

/// The ids of the orders that were announced on a subject, one per announcement.
async fn announced(world: &World, subject: &str) -> Vec<Uuid> {
    let messages = world.nats.messages(streams::ORDERS.name, subject).await;
    let orders = messages.iter().map(|message| serde_json::from_slice::<Value>(&message.payload).unwrap());
    orders.map(|order| order["id"].as_str().unwrap().parse().unwrap()).collect()
}

/// Waits until `order` is announced on `subject`.
async fn wait_for_announcement(world: &World, subject: &str, order: Uuid) {
    eventually_within(Duration::from_secs(15), &format!("{order} on {subject}"), || async {
        announced(world, subject).await.contains(&order).then_some(())
    })
    .await;
}

/// The body of an event of `order`, without a status.
fn event_of(order: Uuid) -> Value {
    json!({"id": order, "ssd_id": 1, "user_id": 1, "barcode": LENTILS, "quantity": 1, "unit_price": euros(299),
        "total": euros(299), "timestamp": "2026-01-01T00:00:00Z"})
}

/// Creates a message schedule for `order`, as the notifications service does for its delivery, that fires in 2100.
async fn create_schedule(world: &World, order: Uuid) {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(NATS_SCHEDULE, "@at 2100-01-01T00:00:00Z");
    headers.insert(NATS_SCHEDULE_TARGET, OrderDue::SUBJECT);
    world.nats.publish_with_headers(format!("orders.timer.completed.{order}"), headers, "{}").await;
}

#[tokio::test]
async fn only_overdue_orders_are_announced_again() {
    let world = World::new().await;
    NEWEST.insert(&world).await;
    let pending = Row { status: "pending", ..OVERDUE }.insert(&world).await;
    let shipped = OVERDUE.insert(&world).await;
    let paid = Row { status: "paid", ..OVERDUE }.insert(&world).await;
    let undelivered = Row { status: "completed", settled: true, ..OVERDUE }.insert(&world).await;
    let unearned = Row { status: "completed", delivered: true, ..OVERDUE }.insert(&world).await;
    let cancelled = Row { status: "cancelled", ..OVERDUE }.insert(&world).await;
    let unwritten = Row { status: "refused", settled: true, closed: false, ..OVERDUE }.insert(&world).await;
    // It was refused just before its cancellation, and its person has only the letter about that.
    let outdated = Row { status: "cancelled", settled: true, closed: false, ..OVERDUE }.insert(&world).await;
    sqlx::query(
        "INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, missing, written_at)
         VALUES ($1, 'refused', 1, $2, 1, 299, 1, now())",
    )
    .bind(outdated)
    .bind(LENTILS)
    .execute(&world.database.pool)
    .await
    .unwrap();
    Row { status: "completed", delivered: true, settled: true, ..OVERDUE }.insert(&world).await;
    Row { status: "cancelled", settled: true, ..OVERDUE }.insert(&world).await;
    Row { status: "refused", settled: true, ..OVERDUE }.insert(&world).await;
    // Late, but before its deadline: it was late in an earlier status.
    Row { due_in: 3600, ..OVERDUE }.insert(&world).await;
    let orders = Orders::start_in(world).await;
    orders.place(LENTILS, 2).await;
    orders.wait_for_announcements(2).await;

    wait_for_announcement(&orders.world, Order::PENDING, pending).await;
    wait_for_announcement(&orders.world, Order::SHIPPED, shipped).await;
    wait_for_announcement(&orders.world, Order::PAID, paid).await;
    wait_for_announcement(&orders.world, Order::COMPLETED, undelivered).await;
    wait_for_announcement(&orders.world, Order::COMPLETED, unearned).await;
    wait_for_announcement(&orders.world, Order::REFUSED, unwritten).await;
    wait_for_announcement(&orders.world, Order::CANCELLED, cancelled).await;
    wait_for_announcement(&orders.world, Order::CANCELLED, outdated).await;
    let announced = announced(&orders.world, "orders.*").await;
    assert_eq!(announced.len(), 9, "eight were overdue and one is new: {announced:?}");

    let messages = orders.world.nats.messages(streams::ORDERS.name, Order::SHIPPED).await;
    let reached: String =
        sqlx::query_scalar("SELECT to_char(shipped_at, 'HH24:MI:SS.US') FROM orders.product_orders WHERE id = $1")
            .bind(shipped)
            .fetch_one(&orders.world.database.pool)
            .await
            .unwrap();
    let time = messages[0].headers.as_ref().unwrap().get(CE_TIME).unwrap().as_str();
    assert!(time.contains(&reached), "a wait counts from when the status was reached, {reached}, not {time}");
    orders.end().await;
}

#[tokio::test]
async fn a_deadline_counts_from_placement_and_for_a_late_order_from_now() {
    let world = World::new().await;
    let late = Row { status: "pending", ..OVERDUE }.insert(&world).await;
    let orders = Orders::start_in(world).await;
    let placed = orders.place(LENTILS, 1).await;
    let now = Clock::real(1.0).now();
    let late_order = event_of(late);
    let steps =
        [(OrderStatus::Paid, 20.0, 10.0), (OrderStatus::Shipped, 30.0, 10.0), (OrderStatus::Completed, 40.0, 10.0)];
    for (status, early_limit, late_limit) in steps {
        if status == OrderStatus::Shipped {
            assert_eq!(orders.request_shipping(&[&placed, &late_order], now).await.len(), 2);
        } else {
            orders.publish(&placed, status, now).await;
            orders.publish(&late_order, status, now).await;
            orders.wait_until_caught_up().await;
        }
        // The deadlines of both orders, in seconds from placement and from now. The late one has just reached its
        // status.
        let limits: Vec<(f64, f64)> = sqlx::query_as(
            "SELECT extract(epoch FROM deadline - placed_at)::float8, extract(epoch FROM deadline - now())::float8
             FROM orders.product_orders WHERE id = ANY($1) ORDER BY placed_at DESC",
        )
        .bind([placed["id"].as_str().unwrap().parse::<Uuid>().unwrap(), late])
        .fetch_all(&orders.world.database.pool)
        .await
        .unwrap();
        assert!((limits[0].0 - early_limit).abs() < 0.001, "{status:?}: {limits:?}");
        assert!(limits[1].1 > late_limit - 8.0 && limits[1].1 <= late_limit, "{status:?}: {limits:?}");
    }
    orders.end().await;
}

#[tokio::test]
async fn an_overdue_order_is_announced_even_if_its_schedule_exists() {
    let world = World::new().await;
    let order = OVERDUE.insert(&world).await;
    create_schedule(&world, order).await;
    let orders = Orders::start_in(world).await;
    wait_for_announcement(&orders.world, Order::SHIPPED, order).await;
    orders.end().await;
}

#[tokio::test]
async fn a_person_sees_that_an_order_was_announced_again_and_what_followed() {
    let world = World::new().await;
    let id = OVERDUE.insert(&world).await;
    let orders = Orders::start_in(world).await;
    wait_for_announcement(&orders.world, Order::SHIPPED, id).await;
    let path = format!("/api/orders/{id}");
    let order = eventually("the announcement is recorded", || async {
        let order = orders.http().get(&path).await.body;
        (order["announced_again"][0]["status"] == "shipped").then_some(order)
    })
    .await;
    // It is completed at the end of its wait, long before the announcement.
    let at: DateTime<Utc> = order["history"][1]["at"].as_str().unwrap().parse().unwrap();
    orders.publish(&event_of(id), OrderStatus::Completed, at + TimeDelta::minutes(1)).await;
    orders.wait_for_status(&order, "completed").await;
    let messages = orders.http().get(&format!("{path}/messages")).await.body["messages"].clone();
    let subjects: Vec<_> = messages.as_array().unwrap().iter().map(|message| message["subject"].clone()).collect();
    assert_eq!(subjects, [Order::SHIPPED, Order::COMPLETED], "{messages}");
    assert!(messages[0]["headers"][ANNOUNCED_AGAIN].is_string(), "{messages}");
    orders.end().await;
}

#[tokio::test]
async fn a_message_that_is_never_acknowledged_does_not_block_recovery() {
    let world = World::new().await;
    // The consumer that charges orders gets this message, and it is never acknowledged.
    world.nats.publish_bytes(Order::PENDING, "poison").await;
    let (consumer, stream) = (streams::BILLING_PENDING.name, streams::ORDERS.name);
    let charging: async_nats::jetstream::consumer::PullConsumer =
        world.nats.bus.jetstream.get_consumer_from_stream(consumer, stream).await.unwrap();
    let mut fetched = charging.fetch().max_messages(1).messages().await.unwrap();
    let _poison = futures::StreamExt::next(&mut fetched).await.unwrap().unwrap();
    world.add_device().await;
    let order = OVERDUE.insert(&world).await;
    let service = Running::start_ready::<OrdersService>(config(&world), Clock::real(1.0)).await;
    wait_for_announcement(&world, Order::SHIPPED, order).await;
    world.end_after(vec![service], &[Leftover::UnacknowledgedMessages]).await;
}

#[tokio::test]
async fn the_last_orders_of_a_crashed_service_are_published_at_the_next_start() {
    let world = World::new().await;
    let hour = 3600;
    Row { status: "pending", placed_in: -600, due_in: hour, ..OVERDUE }.insert(&world).await;
    Row { placed_in: -420, due_in: hour, ..OVERDUE }.insert(&world).await;
    let mut unpublished = Vec::new();
    for placed_in in [-430, -425, -420] {
        unpublished.push(Row { status: "pending", placed_in, due_in: hour, ..OVERDUE }.insert(&world).await);
    }
    let orders = Orders::start_in(world).await;
    for order in &unpublished {
        wait_for_announcement(&orders.world, Order::PENDING, *order).await;
    }
    orders.wait_until_all_are_published().await;
    let messages = orders.world.nats.messages(streams::ORDERS.name, "orders.*").await;
    assert_eq!(messages.len(), unpublished.len(), "not the shipped one, nor the one placed long before the last");
    for message in messages {
        let headers = message.headers.as_ref().unwrap();
        assert!(headers.get(ANNOUNCED_AGAIN).is_none(), "the broker can deduplicate it: {headers:?}");
    }
    orders.end().await;
}

#[tokio::test]
async fn an_order_that_moves_on_is_checked_again_at_its_new_deadline() {
    let world = World::new().await;
    let order = Row { status: "pending", placed_in: -60, due_in: 3600, ..OVERDUE }.insert(&world).await;
    sqlx::query("INSERT INTO orders.late_orders VALUES ($1, now() + interval '1 h', 7)")
        .bind(order)
        .execute(&world.database.pool)
        .await
        .unwrap();
    let orders = Orders::start_in(world).await;
    orders.pay(&event_of(order)).await;
    eventually("it is checked again at its deadline, not in an hour", || async {
        let is_reset = "SELECT announcements = 0 AND check_at = deadline AND check_at < now() + interval '1 min'
                        FROM orders.late_orders JOIN orders.product_orders ON id = order_id";
        sqlx::query_scalar::<_, bool>(is_reset).fetch_one(&orders.world.database.pool).await.unwrap().then_some(())
    })
    .await;
    orders.end().await;
}

#[tokio::test]
async fn a_repeated_event_does_not_end_the_pause_of_a_late_order() {
    let world = World::new().await;
    let order = OVERDUE.insert(&world).await;
    let orders = Orders::start_in(world).await;
    // After this the checkpoints have passed it, and the service has handled the announcement.
    wait_for_announcement(&orders.world, Order::SHIPPED, order).await;
    orders.wait_until_caught_up().await;
    sqlx::query("UPDATE orders.late_orders SET check_at = now() + interval '1 h', announcements = 7")
        .execute(&orders.world.database.pool)
        .await
        .unwrap();
    orders.ship(&event_of(order)).await;
    orders.wait_until_caught_up().await;
    let is_paused = "SELECT announcements = 7 AND check_at > now() + interval '59 min' FROM orders.late_orders";
    assert!(sqlx::query_scalar::<_, bool>(is_paused).fetch_one(&orders.world.database.pool).await.unwrap());
    orders.end().await;
}

#[tokio::test]
async fn each_order_that_is_not_done_is_found_among_many_that_are() {
    let world = World::new().await;
    sqlx::query(
        "WITH placed AS (
             INSERT INTO orders.product_orders
                 (id, ssd_id, user_id, barcode, quantity, unit_price, status, placed_at, shipped_at, completed_at)
             SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid, 1, 1, $1, 1,
                    299, 'completed', to_timestamp(1700000000), to_timestamp(1700000001), to_timestamp(1700000002)
             FROM generate_series(1, 100000) AS n
             RETURNING id
         ), earned AS (
             INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
             SELECT id, 'earning', -1, -2, 299, now() FROM placed
         ), closed AS (
             INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, written_at)
             SELECT id, 'delivered', 1, $1, 1, 299, now() FROM placed
         )
         INSERT INTO users.deliveries SELECT id, 1, $1, 1, now() FROM placed",
    )
    .bind(LENTILS)
    .execute(&world.database.pool)
    .await
    .unwrap();
    let undelivered = Row { status: "completed", settled: true, ..OVERDUE }.insert(&world).await;
    let unearned = Row { status: "completed", delivered: true, placed_in: -3700, ..OVERDUE }.insert(&world).await;
    let unrefunded = Row { status: "cancelled", placed_in: -3800, ..OVERDUE }.insert(&world).await;
    let unwritten =
        Row { status: "completed", delivered: true, settled: true, closed: false, placed_in: -3900, ..OVERDUE };
    let unwritten = unwritten.insert(&world).await;
    let orders = Orders::start_in(world).await;
    wait_for_announcement(&orders.world, Order::COMPLETED, undelivered).await;
    wait_for_announcement(&orders.world, Order::COMPLETED, unearned).await;
    wait_for_announcement(&orders.world, Order::CANCELLED, unrefunded).await;
    wait_for_announcement(&orders.world, Order::COMPLETED, unwritten).await;
    assert_eq!(announced(&orders.world, "orders.*").await.len(), 4);
    orders.end().await;
}

#[tokio::test]
async fn replicas_share_recovery_and_a_restart_loses_nothing() {
    let world = World::new().await;
    world.add_device().await;
    let mut overdue = Vec::new();
    for _ in 0..20 {
        overdue.push(OVERDUE.insert(&world).await);
    }
    let one = Running::start::<OrdersService>(config(&world), Clock::real(1.0)).await;
    let other = Running::start::<OrdersService>(config(&world), Clock::real(1.0)).await;
    for order in &overdue {
        wait_for_announcement(&world, Order::SHIPPED, *order).await;
    }
    one.stop().await;
    other.stop().await;
    // Newer than the checkpoints.
    let lost = Row { placed_in: -60, due_in: -1, ..OVERDUE }.insert(&world).await;
    let again = Running::start::<OrdersService>(config(&world), Clock::real(1.0)).await;
    wait_for_announcement(&world, Order::SHIPPED, lost).await;
    let mut announced = announced(&world, Order::SHIPPED).await;
    announced.sort_unstable();
    overdue.push(lost);
    overdue.sort_unstable();
    assert_eq!(announced, overdue, "each once");
    world.end_after(vec![again], &[]).await;
}

#[tokio::test]
async fn a_replica_frozen_in_a_transaction_blocks_the_others_for_at_most_half_a_minute() {
    // Half a minute is 3 s here.
    let clock = Clock::real(1.0).with_short_timeouts(10);
    let world = World::new().await;
    world.add_device().await;
    let db = &world.database.pool;
    let frozen = FreezableReplica::start(&world, clock);
    let mut lock = db.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE orders.checkpoints IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    eventually("it waits in a transaction", || async {
        let waits = "wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE SKIP LOCKED%'";
        (count_transactions(db, waits).await > 0).then_some(())
    })
    .await;
    let frozen = frozen.freeze().await;
    lock.rollback().await.unwrap();
    eventually("its transaction is idle", || async {
        (count_transactions(db, "state = 'idle in transaction'").await > 0).then_some(())
    })
    .await;

    // No checkpoint moves past the start of a running transaction.
    let lost = Row { placed_in: 0, due_in: 1, ..OVERDUE }.insert(&world).await;
    let other = Running::start::<OrdersService>(config(&world), clock).await;
    // The transaction ends after 3 s; the checkpoint reaches the order after 7 s.
    eventually_within(Duration::from_secs(25), "the order is announced", || async {
        announced(&world, Order::SHIPPED).await.contains(&lost).then_some(())
    })
    .await;
    other.stop().await;
    drop(frozen);
    // The frozen replica may have received the announcement, and never acknowledges it.
    world.abandon();
}

/// Counts the transactions of orders services that match `condition`.
async fn count_transactions(db: &PgPool, condition: &'static str) -> i64 {
    let query = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'off-orders' AND datname = current_database()
         AND xact_start IS NOT NULL AND {condition}"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn an_order_that_is_delivered_earned_and_closed_is_no_longer_late() {
    let world = World::new().await;
    let order = OVERDUE.insert(&world).await;
    let orders = Orders::start_in(world).await;
    wait_for_announcement(&orders.world, Order::SHIPPED, order).await;
    sqlx::raw_sql(
        "UPDATE orders.product_orders SET status = 'completed', completed_at = now();
         INSERT INTO users.deliveries SELECT id, ssd_id, barcode, quantity, now() FROM orders.product_orders;
         INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
         SELECT id, 'earning', -1, -2, 299, now() FROM orders.product_orders;
         INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, written_at)
         SELECT id, 'delivered', user_id, barcode, quantity, 299, now() FROM orders.product_orders;
         UPDATE orders.late_orders SET check_at = now()",
    )
    .execute(&orders.world.database.pool)
    .await
    .unwrap();
    eventually("no order is late", || async {
        let late: i64 = sqlx::query_scalar("SELECT count(*) FROM orders.late_orders")
            .fetch_one(&orders.world.database.pool)
            .await
            .unwrap();
        (late == 0).then_some(())
    })
    .await;
    orders.end().await;
}

#[tokio::test]
async fn an_order_that_a_wrong_clock_placed_in_the_future_is_overdue_now() {
    let world = World::new().await;
    let order = Row { placed_in: 400 * 86_400, due_in: 400 * 86_400, ..OVERDUE }.insert(&world).await;
    let orders = Orders::start_in(world).await;
    wait_for_announcement(&orders.world, Order::SHIPPED, order).await;
    orders.end().await;
}

#[tokio::test]
async fn an_order_whose_check_a_wrong_clock_set_far_ahead_is_announced_now() {
    let world = World::new().await;
    let year = 365 * 86_400;
    let order = Row { placed_in: -60, due_in: year, ..OVERDUE }.insert(&world).await;
    sqlx::query("INSERT INTO orders.late_orders VALUES ($1, now() + interval '1 year', 7)")
        .bind(order)
        .execute(&world.database.pool)
        .await
        .unwrap();
    let orders = Orders::start_in(world).await;
    wait_for_announcement(&orders.world, Order::SHIPPED, order).await;
    orders.end().await;
}

#[tokio::test]
async fn with_a_wrong_clock_no_order_is_placed_and_the_service_is_not_ready() {
    let world = World::new().await;
    let ssd = world.add_device().await;
    let (clock, mover) = Clock::movable(1.0);
    mover.move_by(TimeDelta::days(400));
    let service = Running::start::<OrdersService>(config(&world), clock).await;
    let answer = service.http.post("/api/orders", &json!({"ssd_id": ssd, "barcode": LENTILS, "quantity": 1})).await;
    assert_eq!((answer.status.as_u16(), &answer.body["code"]), (503, &"unavailable".into()), "{answer:?}");
    let readiness = service.health.get("/readyz").await;
    let clock = readiness.body["checks"]["clock"].as_str().unwrap();
    assert!(readiness.status == 503 && clock.contains("ahead of the database"), "{readiness:?}");
    world.end_after(vec![service], &[]).await;
}
