//! The audit finds what is wrong: each thing that must never be is done to a sound system.

use crate::{off, stdout};
use off_testkit::{LENTILS, TEA, World};
use serde_json::json;
use uuid::Uuid;

/// Runs the audit of `world`; whether it passed, and what it said.
async fn audit(world: &World) -> (bool, String) {
    let output = off(&["audit", "--patience", "1s"])
        .env("DATABASE_URL", &world.database.url)
        .env("NATS_URL", &world.nats.url)
        .output()
        .await
        .unwrap();
    (output.status.success(), stdout(&output))
}

async fn sql(world: &World, statement: &'static str) {
    sqlx::raw_sql(statement).execute(&world.database.pool).await.unwrap();
}

/// A world with an order that was completed and delivered, of which one unit was eaten.
async fn sound_world() -> World {
    let world = World::new().await;
    world.add_device().await;
    sql(
        &world,
        "INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, status, placed_at, shipped_at, completed_at)
         VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1, '2000000000015', 5, 'completed', now() - interval '3 s',
                 now() - interval '2 s', now() - interval '1 s');
         INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at)
         VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1, '2000000000015', 5, now());
         INSERT INTO users.consumptions (ssd_id, id, barcode, quantity, taken, consumed_at)
         VALUES (1, 'breakfast', '2000000000015', 1, 1, now());
         INSERT INTO users.product_ssds (ssd_id, barcode, quantity, reorder_point) VALUES (1, '2000000000015', 4, 2)",
    )
    .await;
    world
}

#[tokio::test]
async fn a_sound_system_passes() {
    let world = sound_world().await;
    let (passed, said) = audit(&world).await;
    assert!(passed && said.contains("every order is accounted for"), "{said}");
    assert!(said.contains("0 orders are pending, 0 shipped, 1 completed"), "{said}");
}

#[tokio::test]
async fn whatever_must_never_be_is_found() {
    for (harm, finding) in [
        (
            "DELETE FROM users.deliveries; DELETE FROM users.consumptions; DELETE FROM users.product_ssds",
            "is completed and was never delivered",
        ),
        (
            "UPDATE users.deliveries SET quantity = 6; UPDATE users.product_ssds SET quantity = 5",
            "otherwise than ordered",
        ),
        ("UPDATE users.product_ssds SET quantity = 3", "ssd 1 holds 3 of 2000000000015 and should hold 4"),
        ("DELETE FROM users.product_ssds", "ssd 1 holds 0 of 2000000000015 and should hold 4"),
        ("UPDATE users.deliveries SET order_id = gen_random_uuid()", "was delivered and never placed"),
        ("UPDATE orders.product_orders SET shipped_at = placed_at - interval '1 s'", "in an impossible order"),
        (
            "UPDATE orders.product_orders SET status = 'shipped', completed_at = NULL",
            "was delivered, and the orders service never hears of it",
        ),
        (
            "INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at)
             VALUES (gen_random_uuid(), 1, '2000000000015', 1, now())",
            "is pending and nothing moves it on",
        ),
        (
            "INSERT INTO outbox.messages (source, subject, message_id, body, occurred_at)
             VALUES ('users', 'users.registered', 'registered:1', '{}', now() - interval '1 minute')",
            "users.registered of users is stuck in the outbox",
        ),
    ] {
        let world = sound_world().await;
        sql(&world, harm).await;
        let (passed, said) = audit(&world).await;
        assert!(!passed && said.contains(finding), "after\n{harm}\nit said\n{said}");
    }
}

#[tokio::test]
async fn an_order_is_found_wherever_it_waits() {
    let world = sound_world().await;
    let [outbox, supplier, wait] = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    for id in [outbox, supplier, wait] {
        sqlx::query(
            "INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at) VALUES ($1, 1, $2, 1, now())",
        )
        .bind(id)
        .bind(TEA)
        .execute(&world.database.pool)
        .await
        .unwrap();
    }
    sqlx::query(
        "INSERT INTO outbox.messages (source, subject, message_id, body, occurred_at)
         VALUES ('orders', 'orders.pending', $1 || ':pending', '{}', now())",
    )
    .bind(outbox.to_string())
    .execute(&world.database.pool)
    .await
    .unwrap();
    let order = |id: Uuid, status: &str| {
        json!({"id": id, "ssd_id": 1, "product_id": LENTILS, "timestamp": "2026-01-01T00:00:00Z", "quantity": 1,
            "status": status})
    };
    world.say("orders.pending", &order(supplier, "pending")).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Schedule", "@at 2100-01-01T00:00:00Z");
    headers.insert("Nats-Schedule-Target", "orders.shipped");
    let body = order(wait, "shipped").to_string().into();
    let sent = world
        .nats
        .bus
        .jetstream
        .publish_with_headers(format!("orders.timer.shipped.{wait}"), headers, body)
        .await
        .unwrap();
    sent.await.unwrap();

    let (passed, said) = audit(&world).await;
    assert!(passed, "{said}");
    for place in ["in the outbox", "on the way to the supplier", "at the supplier, the wait is kept by JetStream"] {
        assert!(said.contains(&format!("1  {place}")), "nothing {place}:\n{said}");
    }
}
