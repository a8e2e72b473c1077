//! The doctor looks at motion: what stands still in a system that answers is named, with what to do about it.

use crate::{Home, stderr, stdout};
use off_testkit::{TEA, World};

async fn examine(home: &Home, world: &World) -> (bool, String) {
    let mut doctor = home.command(&["doctor"]);
    doctor.env("DATABASE_URL", &world.database.url).env("NATS_URL", &world.nats.url);
    let output = doctor.output().await.unwrap();
    (output.status.success(), stdout(&output) + &stderr(&output))
}

async fn sql(world: &World, statement: &'static str) {
    sqlx::raw_sql(statement).execute(&world.database.pool).await.unwrap();
}

#[tokio::test]
async fn what_stands_still_is_named_with_what_to_do() {
    let (home, world) = (Home::new(), World::new().await);
    world.add_device().await;
    let (well, said) = examine(&home, &world).await;
    assert!(
        well && said.contains("✓ unpublished     no message waits for the broker") && said.contains("all is well"),
        "{said}"
    );

    // What is young is in motion.
    sql(
        &world,
        "INSERT INTO outbox.messages (source, subject, message_id, body, occurred_at)
         VALUES ('orders', 'orders.pending', 'young', '{}', now())",
    )
    .await;
    let (well, said) = examine(&home, &world).await;
    assert!(well && said.contains("✓ unpublished     1 message waiting for the broker"), "{said}");
    sql(&world, "UPDATE outbox.messages SET occurred_at = now() - interval '1 minute'").await;
    let (well, said) = examine(&home, &world).await;
    assert!(!well && said.contains("✗ unpublished") && said.contains("has its disk room?"), "{said}");
    sql(&world, "DELETE FROM outbox.messages").await;

    sqlx::query(
        "INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at, due_at)
         VALUES ('01890a5d-ac97-774b-bcce-b302099a8058', 1, $1, 1, '2023-06-30 03:34:18.519Z', now() - interval '1 h')",
    )
    .bind(TEA)
    .execute(&world.database.pool)
    .await
    .unwrap();
    let (well, said) = examine(&home, &world).await;
    assert!(!well && said.contains("✗ orders          1 overdue, the first for 36"), "{said}");
    sql(&world, "DELETE FROM orders.product_orders").await;

    let jetstream = &world.nats.bus.jetstream;
    jetstream.publish("dead.ORDERS.supplier", "poison".into()).await.unwrap().await.unwrap();
    let (well, said) = examine(&home, &world).await;
    assert!(well && said.contains("! dead letters    1 message ") && said.contains("`off dead list`"), "{said}");

    jetstream.publish("orders.pending", "{}".into()).await.unwrap().await.unwrap();
    let (well, said) = examine(&home, &world).await;
    assert!(!well && said.contains("nobody takes what waits for supplier (1 message)"), "{said}");

    jetstream.delete_consumer_from_stream("supplier", "ORDERS").await.unwrap();
    let (well, said) = examine(&home, &world).await;
    assert!(
        !well && said.contains("✗ consumers") && said.contains("supplier") && said.contains("`off migrate`"),
        "{said}"
    );
    jetstream.delete_stream("USERS").await.unwrap();
    let (well, said) = examine(&home, &world).await;
    assert!(!well && said.contains("✗ streams") && said.contains("USERS") && said.contains("`off migrate`"), "{said}");
}
