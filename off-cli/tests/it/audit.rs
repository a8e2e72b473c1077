//! The audit finds what is wrong: each thing that must never be is done to a sound system.

use crate::{off, stderr, stdout};
use futures::StreamExt as _;
use off_testkit::{TEA, World};
use serde_json::{Value, json};
use std::process::Output;

/// A completed order.
const DELIVERED: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// An order that waits for its supplier, in time.
const WAITING: &str = "01890a5d-ac97-774b-bcce-b302099a8058";

async fn audit(world: &World, arguments: &[&str]) -> Output {
    off(&[&["audit", "--patience", "1s"], arguments].concat())
        .env("DATABASE_URL", &world.database.url)
        .env("NATS_URL", &world.nats.url)
        .output()
        .await
        .unwrap()
}

async fn sql(world: &World, statement: &'static str) {
    sqlx::raw_sql(statement).execute(&world.database.pool).await.unwrap();
}

/// A world with an order that was completed and delivered, of which one unit was eaten, and one that waits for its
/// supplier; both were announced.
async fn sound_world() -> World {
    let world = World::new().await;
    world.add_device().await;
    sql(
        &world,
        "INSERT INTO orders.product_orders
             (id, ssd_id, barcode, quantity, status, placed_at, shipped_at, completed_at, due_at)
         SELECT '01890a5d-ac96-774b-bcce-b302099a8057', 1, '2000000000015', 5, 'completed', at, at + interval '2 s',
                at + interval '3 s', at + interval '13 s'
         FROM (SELECT timestamptz '2023-06-30 03:34:18.518Z' AS at) AS placed;
         INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at, due_at)
         VALUES ('01890a5d-ac97-774b-bcce-b302099a8058', 1, '2000000000015', 1, '2023-06-30 03:34:18.519Z',
                 now() + interval '1 minute');
         INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at)
         VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1, '2000000000015', 5, now());
         INSERT INTO users.consumptions (ssd_id, id, barcode, quantity, taken, consumed_at)
         VALUES (1, 'breakfast', '2000000000015', 1, 1, now());
         INSERT INTO users.product_ssds (ssd_id, barcode, quantity, reorder_point) VALUES (1, '2000000000015', 4, 2)",
    )
    .await;
    announce(&world, DELIVERED).await;
    announce(&world, WAITING).await;
    world
}

/// Announces an order as pending, as the orders service does.
async fn announce(world: &World, order: &str) {
    let body = json!({"id": order, "ssd_id": 1, "product_id": TEA, "timestamp": "2023-06-29T23:59:04Z", "quantity": 1,
        "status": "pending"});
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("{order}:pending").as_str());
    let jetstream = &world.nats.bus.jetstream;
    jetstream.publish_with_headers("orders.pending", headers, body.to_string().into()).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_sound_system_passes() {
    let world = sound_world().await;
    let output = audit(&world, &[]).await;
    let said = stdout(&output);
    assert!(output.status.success() && said.contains("every order is accounted for"), "{said}{}", stderr(&output));
    assert!(said.contains("1 order pending, 0 shipped, 1 completed; 1 delivery, 1 consumption, 1 shelf"), "{said}");
}

#[tokio::test]
async fn whatever_must_never_be_is_found() {
    let faults = [
        // Something is missing.
        (
            "DELETE FROM users.deliveries; DELETE FROM users.consumptions; DELETE FROM users.product_ssds",
            "is completed and was never delivered",
        ),
        ("DELETE FROM users.consumptions", "ssd 1 holds 4 of 2000000000015 and should hold 5"),
        ("DELETE FROM users.product_ssds", "ssd 1 holds 0 of 2000000000015 and should hold 4"),
        ("DELETE FROM orders.product_orders WHERE status = 'completed'", "was delivered and never placed"),
        ("DELETE FROM orders.product_orders WHERE status = 'pending'", "was announced, and Postgres does not know it"),
        // What would move it on is gone: its event, its timer.
        (
            "UPDATE orders.product_orders SET due_at = now() WHERE status = 'pending'",
            "is pending and was never shipped",
        ),
        (
            "UPDATE orders.product_orders SET status = 'shipped', shipped_at = placed_at, due_at = now()
             WHERE status = 'pending'",
            "is shipped and never arrived",
        ),
        (
            "INSERT INTO outbox.messages (source, subject, message_id, body, occurred_at)
             VALUES ('users', 'users.registered', 'registered:1', '{}', now() - interval '1 minute')",
            "users.registered of users is stuck in the outbox",
        ),
        (
            "UPDATE orders.product_orders SET due_at = now() + interval '400 days' WHERE status = 'pending'",
            "later than any wait allows",
        ),
        // Something is there that must not be.
        (
            "INSERT INTO users.deliveries VALUES (gen_random_uuid(), 1, '2000000000015', 1, now())",
            "was delivered and never placed",
        ),
        (
            "INSERT INTO users.consumptions VALUES (1, 'supper', '2000000000015', 1, 1, now())",
            "ssd 1 holds 4 of 2000000000015 and should hold 3",
        ),
        (
            "INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at)
             VALUES (gen_random_uuid(), 1, '2000000000015', 1, now())",
            "was placed at another time than its id says",
        ),
        (
            "INSERT INTO users.product_ssds (ssd_id, barcode, quantity, reorder_point) VALUES (1, '2000000000022', 9, 2)",
            "ssd 1 holds 9 of 2000000000022 and should hold 0",
        ),
        // A quantity, a time, a state was altered.
        (
            "UPDATE users.deliveries SET quantity = 6; UPDATE users.product_ssds SET quantity = 5",
            "was delivered otherwise than ordered",
        ),
        (
            "UPDATE orders.product_orders SET quantity = 4 WHERE status = 'completed'",
            "was delivered otherwise than ordered",
        ),
        ("UPDATE users.product_ssds SET quantity = 3", "ssd 1 holds 3 of 2000000000015 and should hold 4"),
        ("UPDATE users.deliveries SET order_id = gen_random_uuid()", "was delivered and never placed"),
        ("UPDATE orders.product_orders SET shipped_at = placed_at - interval '1 s'", "in an impossible order"),
        ("UPDATE orders.product_orders SET placed_at = placed_at - interval '1 h'", "at another time than its id says"),
        ("UPDATE orders.product_orders SET placed_at = now() + interval '400 days'", "was placed in the future"),
        ("UPDATE orders.product_orders SET status = 'shipped', completed_at = NULL", "is shipped and never arrived"),
        ("UPDATE orders.product_orders SET completed_at = NULL", "in an impossible order"),
        (
            "UPDATE orders.product_orders SET status = 'shipped', due_at = now() + interval '1 h' WHERE status = 'pending'",
            "in an impossible order",
        ),
        (
            "UPDATE orders.product_orders SET completed_at = now() + interval '1 h' WHERE status = 'completed'",
            "reached a state in the future",
        ),
        ("UPDATE users.product_ssds SET reorder_point = 4", "that is low, and nobody is told"),
        ("UPDATE users.product_ssds SET low_since = now(), remind_at = now()", "that is enough, and counts as low"),
        (
            "UPDATE users.product_ssds SET reorder_point = 4, low_since = now(), remind_at = now() - interval '1 h'",
            "that is low, and nobody is told",
        ),
        (
            "UPDATE users.product_ssds SET reorder_point = 4, low_since = now(), remind_at = now() + interval '400 days'",
            "that is low, and nobody is told",
        ),
    ];
    // Most of each audit is its patience, so several run at a time.
    futures::stream::iter(faults)
        .for_each_concurrent(6, |(harm, finding)| async move {
            let world = sound_world().await;
            sql(&world, harm).await;
            let output = audit(&world, &[]).await;
            let said = stdout(&output);
            assert!(output.status.code() == Some(1) && said.contains(finding), "after\n{harm}\nit said\n{said}");
        })
        .await;
}

#[tokio::test]
async fn what_the_broker_holds_is_shown_and_proves_nothing() {
    let world = sound_world().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Schedule", "@at 2100-01-01T00:00:00Z");
    headers.insert("Nats-Schedule-Target", "orders.due");
    let subject = format!("orders.timer.shipped.{WAITING}");
    let jetstream = &world.nats.bus.jetstream;
    jetstream.publish_with_headers(subject, headers, "{}".into()).await.unwrap().await.unwrap();
    world.say_bytes("dead.ORDERS.supplier", b"not readable".to_vec()).await;
    let output = audit(&world, &[]).await;
    let said = stdout(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 order waiting for the supplier, 0 for the delivery"), "{said}");
    assert!(said.contains("1 dead letter: `off dead list` shows them"), "{said}");

    sql(&world, "UPDATE orders.product_orders SET due_at = now() WHERE status = 'pending'").await;
    let output = audit(&world, &[]).await;
    assert_eq!(output.status.code(), Some(1), "overdue, whatever wait is kept: {}", stdout(&output));
}

#[tokio::test]
async fn a_program_can_read_what_was_found() {
    let world = sound_world().await;
    sql(&world, "DELETE FROM users.consumptions").await;
    let output = audit(&world, &["--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["findings"][0]["check"], "shelves", "{document}");
    assert_eq!(document["counts"]["completed"], 1, "{document}");
    assert!(document["broker"]["streams"].as_array().unwrap().len() == 4, "{document}");
}

#[tokio::test]
async fn an_audit_that_could_not_look_has_found_nothing() {
    let mut world = sound_world().await;
    world.nats.server.kill().await.unwrap();
    let output = audit(&world, &[]).await;
    assert_eq!(output.status.code(), Some(2), "{}{}", stdout(&output), stderr(&output));
    assert!(stderr(&output).contains("could not look at everything"), "{}", stderr(&output));
}
