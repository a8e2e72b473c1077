//! Outages of Postgres and NATS.

use crate::Users;
use off_events::streams;
use off_testkit::{LENTILS, TEA, World, eventually};

#[tokio::test]
async fn a_delivery_during_a_postgres_outage_is_retried_and_counted_once() {
    let mut users = Users::start_in(World::with_own_postgres().await).await;
    let ssd = users.world.add_device().await;
    users.world.database.server.as_mut().unwrap().stop().await.unwrap();
    users.deliver(ssd, LENTILS, 5).await;
    let refused = users.register(&["02:00:00:00:00:01"]).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "unavailable"));
    users.world.database.server.as_mut().unwrap().start_again().await.unwrap();
    users.assert_shelf_holds(ssd, LENTILS, 5).await;
    users.end().await;
}

/// Messages of `stock.consumed` that the service received and did not acknowledge yet.
async fn unacknowledged(users: &Users) -> Option<u64> {
    Some(users.world.nats.bus.backlog(&streams::SHELVES_CONSUMED).await.ok()?.unacknowledged)
}

#[tokio::test]
async fn a_report_that_reuses_a_sequence_number_after_a_broker_restore_is_counted() {
    let mut users = Users::start().await;
    let ssd = users.world.add_device().await;
    for barcode in [LENTILS, TEA] {
        users.deliver(ssd, barcode, 5).await;
        users.assert_shelf_holds(ssd, barcode, 5).await;
    }
    users.world.nats.back_up_store().await;

    // The service handles the first report and waits for the lock of the shelf. Meanwhile the broker is restored from a
    // backup: it loses the report and gives its sequence number to another one.
    let db = users.world.database.pool.clone();
    let mut shelf = db.begin().await.unwrap();
    let lock = "SELECT FROM users.shelf_items WHERE barcode = $1 FOR UPDATE";
    sqlx::query(lock).bind(LENTILS).fetch_all(&mut *shelf).await.unwrap();
    users.consume("lost", ssd, LENTILS, 1).await;
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let session = eventually("the service waits for the shelf", || async {
        sqlx::query_scalar::<_, i32>(waiting).fetch_optional(&db).await.unwrap()
    });
    let session = session.await;
    users.world.nats.restore_store().await;
    assert_eq!(unacknowledged(&users).await, Some(0));
    users.consume("reused number", ssd, TEA, 1).await;
    eventually("the service has received the next report", || async {
        (unacknowledged(&users).await? == 1).then_some(())
    })
    .await;
    sqlx::query("SELECT pg_terminate_backend($1)").bind(session).execute(&db).await.unwrap();
    shelf.rollback().await.unwrap();

    users.assert_shelf_holds(ssd, LENTILS, 4).await;
    users.assert_shelf_holds(ssd, TEA, 4).await;
    assert!(users.world.nats.dead_letters().await.is_empty());
    // The killed broker lost acknowledgements, and delivers such a message again only after the ack wait of 30 s.
    users.world.abandon();
}
