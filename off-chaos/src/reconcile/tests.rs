use super::*;
use crate::journal::{Loss, Outcome, Poison, Request};
use off_events::{Order, SsdId, streams};
use off_kit::bus::dead_letters;
use off_testkit::{LENTILS, Leftover, TEA, World};
use std::time::Duration;
use tokio::time::Instant;

/// A delivered order, a consumption report, and a journal with both.
async fn consistent_world() -> (World, Entries) {
    let world = World::new().await;
    let ssd_id = SsdId(world.add_device().await);
    sql(
        &world,
        "INSERT INTO orders.product_orders
             (id, ssd_id, barcode, quantity, status, idempotency_key, placed_at, shipped_at, completed_at)
         VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1, '2000000000015', 5, 'completed', 'order-1',
                 now() - interval '3 s', now() - interval '2 s', now() - interval '1 s');
         INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at)
         VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1, '2000000000015', 5, now());
         INSERT INTO users.consumptions (ssd_id, id, barcode, quantity, taken, consumed_at)
         VALUES (1, 'report-1', '2000000000015', 1, 1, now());
         INSERT INTO users.shelf_items (ssd_id, barcode, quantity, reorder_point)
         VALUES (1, '2000000000015', 4, 2)",
    )
    .await;
    let mut entries = Entries::default();
    let request = |quantity| Request { ssd_id, barcode: LENTILS.parse().unwrap(), quantity };
    let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    entries.orders.insert("order-1".to_owned(), (request(5), Outcome::Accepted(id)));
    let now = Instant::now();
    let accepted = Outcome::Accepted(now..=now);
    entries.reports.insert((ssd_id, "report-1".to_owned()), (request(1), accepted));
    (world, entries)
}

async fn sql(world: &World, statement: &'static str) {
    sqlx::raw_sql(statement).execute(&world.database.pool).await.unwrap();
}

async fn findings(world: &World, entries: &Entries) -> String {
    let letters = dead_letters::list(&world.nats.bus).await.unwrap();
    let verdicts = check_all(&world.database.pool, &world.nats.bus, entries, &letters).await.unwrap();
    verdicts.into_iter().flat_map(|verdict| verdict.findings).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_journal_that_agrees_with_the_database_has_no_findings() {
    let (world, mut entries) = consistent_world().await;
    let unanswered = Request { ssd_id: SsdId(1), barcode: TEA.parse().unwrap(), quantity: 1 };
    entries.orders.insert("order-2".to_owned(), (unanswered.clone(), Outcome::Unknown));
    entries.reports.insert((SsdId(1), "report-2".to_owned()), (unanswered, Outcome::Unknown));
    assert_eq!(findings(&world, &entries).await, "");
    world.end().await;
}

#[tokio::test]
async fn every_contradiction_to_the_journal_is_a_finding() {
    for (statement, finding) in [
        ("DELETE FROM orders.product_orders", "is not stored"),
        ("UPDATE orders.product_orders SET id = gen_random_uuid()", "is stored under another id"),
        ("UPDATE orders.product_orders SET quantity = 6", "is stored with another device"),
        ("UPDATE orders.product_orders SET status = 'shipped'", "is not completed"),
        ("UPDATE orders.product_orders SET shipped_at = placed_at - interval '1 s'", "in an impossible order"),
        ("UPDATE orders.product_orders SET shipped_at = NULL", "is completed without a time of shipping"),
        ("DELETE FROM users.deliveries", "was not delivered exactly once"),
        ("UPDATE orders.product_orders SET idempotency_key = NULL", "was not requested"),
        ("DELETE FROM users.consumptions", "was acknowledged but is not stored"),
        ("UPDATE users.consumptions SET quantity = 2", "is stored with another product or quantity"),
        ("UPDATE users.consumptions SET id = 'report-9'", "was not sent"),
        ("UPDATE users.shelf_items SET low_since = now()", "stays low"),
    ] {
        let (world, entries) = consistent_world().await;
        sql(&world, statement).await;
        let found = findings(&world, &entries).await;
        assert!(found.contains(finding), "after {statement} it found: {found}");
        world.end().await;
    }
}

#[tokio::test]
async fn missing_repeated_and_unexpected_dead_letters_are_findings() {
    let (world, mut entries) = consistent_world().await;
    let poison = Poison { subject: Order::PENDING, published: Instant::now()..=Instant::now() };
    entries.poison.insert(("supplier".to_owned(), "poison-1".to_owned()), poison);
    assert!(findings(&world, &entries).await.contains("has no dead letter of supplier"));
    let publish_dead_letter = |tag: &'static str| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Off-Dead-Reason", "not readable");
        headers.insert("Off-Chaos", tag);
        world.nats.bus.jetstream.publish_with_headers("dead.ORDERS.supplier", headers, "".into())
    };
    publish_dead_letter("poison-1").await.unwrap().await.unwrap();
    assert_eq!(findings(&world, &entries).await, "");
    publish_dead_letter("poison-1").await.unwrap().await.unwrap();
    assert!(findings(&world, &entries).await.contains("has 2 dead letters"));
    publish_dead_letter("poison-2").await.unwrap().await.unwrap();
    assert!(findings(&world, &entries).await.contains("has an unexpected dead letter"));
    world.end_leaving(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn only_a_loss_in_its_own_stream_explains_a_missing_report() {
    let (world, mut entries) = consistent_world().await;
    sql(&world, "DELETE FROM users.consumptions").await;
    entries.losses.push(loss(streams::ORDERS.name, Some(1)));
    assert!(findings(&world, &entries).await.contains("was acknowledged but is not stored"));
    entries.losses.push(loss(streams::STOCK.name, Some(1)));
    assert_eq!(findings(&world, &entries).await, "");
    world.end().await;
}

#[tokio::test]
async fn a_loss_explains_no_more_missing_reports_than_were_unhandled() {
    let (world, mut entries) = consistent_world().await;
    sql(&world, "DELETE FROM users.consumptions").await;
    entries.losses.push(loss(streams::STOCK.name, Some(0)));
    assert!(findings(&world, &entries).await.contains("1 reports are missing"));
    world.end().await;
}

#[tokio::test]
async fn a_loss_in_the_orders_stream_explains_a_missing_time_of_shipping() {
    let (world, mut entries) = consistent_world().await;
    sql(&world, "UPDATE orders.product_orders SET shipped_at = NULL").await;
    entries.losses.push(loss(streams::ORDERS.name, None));
    assert_eq!(findings(&world, &entries).await, "");
    world.end().await;
}

/// A loss one second from now, with this many unhandled messages.
fn loss(stream: &'static str, unhandled: Option<u64>) -> Loss {
    let now = Instant::now();
    let moment = now + Duration::from_secs(1);
    Loss { stream, since: now - Duration::from_mins(1), during: moment..=moment, unhandled }
}
