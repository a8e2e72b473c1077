//! Invalid input, and outages of Postgres and NATS.

use crate::{Users, ada};
use off_events::streams;
use off_testkit::{LENTILS, TEA, World, eventually};
use serde_json::json;

#[tokio::test]
async fn all_invalid_fields_of_a_registration_are_reported() {
    let users = Users::start().await;
    let wrong = json!({
        "user": {"first_name": "\u{0}", "last_name": "x".repeat(101), "email": "nobody", "password": "short"},
        "devices": [{"mac_address": "02:00:00:00:00:01"}, {"mac_address": "not one"}],
    });
    let answer = users.http().post("/api/register", &wrong).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (422, "invalid_body"));
    assert_eq!(
        answer.wrong_fields(),
        ["user.first_name", "user.last_name", "user.email", "user.password", "devices[1].mac_address"]
    );
    let none = users.http().post("/api/register", &ada("ada@example.org", &[])).await;
    assert_eq!(none.wrong_fields(), ["devices"]);
    let wrong_types = json!({"user": {"first_name": 1, "password": null}, "devices": [{}]});
    let wrong_types = users.http().post("/api/register", &wrong_types).await;
    let every_field = ["user.first_name", "user.last_name", "user.email", "user.password"];
    assert_eq!(wrong_types.wrong_fields(), [&every_field[..], &["devices[0].mac_address"]].concat());
    let empty = users.http().post("/api/register", &json!({})).await;
    assert_eq!(empty.wrong_fields(), [&every_field[..], &["devices"]].concat());
    let not_an_object = users.http().post("/api/register", &json!({"user": "Ada"})).await;
    assert_eq!(not_an_object.wrong_fields(), ["user"]);
    for array in [json!(["Ada"]), json!({"user": ["Ada", "Example", "ada@example.org", "long enough"], "devices": []})]
    {
        let answer = users.http().post("/api/register", &array).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (422, "invalid_body"), "{array}");
    }
    let malformed = users.http().post_text("/api/register", "{\"user\"").await;
    assert_eq!((malformed.status.as_u16(), malformed.code()), (400, "malformed_json"));
}

#[tokio::test]
async fn missing_resources_are_404_and_invalid_parameters_400() {
    let users = Users::start().await;
    for path in ["/api/users/1", "/api/devices/1", "/api/devices/lentils", "/api/users/99999999999999999999"] {
        let answer = users.http().get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{path}");
    }
    for path in ["/api/devices?limit=0", "/api/devices?limit=x", "/api/devices?cursor=x"] {
        let answer = users.http().get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "invalid_query"), "{path}");
    }
}

#[tokio::test]
async fn a_delivery_during_a_postgres_outage_is_retried_and_counted_once() {
    let mut users = Users::start_in(World::with_own_postgres().await).await;
    let ssd = users.world.add_device().await;
    users.world.database.server.as_mut().unwrap().stop().await.unwrap();
    let order = json!({"id": uuid::Uuid::now_v7(), "ssd_id": ssd, "barcode": LENTILS,
        "timestamp": "2026-01-01T00:00:00Z", "quantity": 5, "status": "completed"});
    users.world.publish("orders.completed", &order).await;
    let refused = users.http().post("/api/register", &ada("ada@example.org", &["02:00:00:00:00:01"])).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "unavailable"));
    users.world.database.server.as_mut().unwrap().start_again().await.unwrap();
    users.wait_for_quantity(ssd, LENTILS, 5).await;
    assert!(off_kit::bus::dead_letters::list(&users.world.nats.bus).await.unwrap().is_empty());
}

/// Messages of `stock.consumed` that were delivered and are not acknowledged yet.
async fn unacknowledged(users: &Users) -> Option<u64> {
    Some(users.world.nats.bus.waiting(&streams::SHELVES_CONSUMED).await.ok()?.unacknowledged)
}

#[tokio::test]
async fn a_report_that_reuses_a_sequence_number_after_a_broker_restore_is_counted() {
    let mut users = Users::start().await;
    let ssd = users.world.add_device().await;
    for barcode in [LENTILS, TEA] {
        let order = json!({"id": uuid::Uuid::now_v7(), "ssd_id": ssd, "barcode": barcode,
            "timestamp": "2026-01-01T00:00:00Z", "quantity": 5, "status": "completed"});
        users.world.publish("orders.completed", &order).await;
        users.wait_for_quantity(ssd, barcode, 5).await;
    }
    users.world.nats.back_up_store().await;
    let report = |id: &str, barcode: &str| json!({"id": id, "ssd_id": ssd, "barcode": barcode, "timestamp": "2026-01-01T00:00:00Z", "quantity": 1});

    // The service handles the first report and waits for the lock of the shelf. Meanwhile the broker is restored from a
    // backup: it loses the report and gives its sequence number to another one.
    let db = users.world.database.pool.clone();
    let mut shelf = db.begin().await.unwrap();
    let lock = "SELECT FROM users.shelf_items WHERE barcode = $1 FOR UPDATE";
    sqlx::query(lock).bind(LENTILS).fetch_all(&mut *shelf).await.unwrap();
    users.world.publish("stock.consumed", &report("lost", LENTILS)).await;
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let session = eventually("the service waits for the shelf", || async {
        sqlx::query_scalar::<_, i32>(waiting).fetch_optional(&db).await.unwrap()
    });
    let session = session.await;
    users.world.nats.restore_store().await;
    assert_eq!(unacknowledged(&users).await, Some(0));
    users.world.publish("stock.consumed", &report("reused number", TEA)).await;
    eventually("the service has received the next report", || async {
        (unacknowledged(&users).await? == 1).then_some(())
    })
    .await;
    sqlx::query("SELECT pg_terminate_backend($1)").bind(session).execute(&db).await.unwrap();
    shelf.rollback().await.unwrap();

    users.wait_for_quantity(ssd, LENTILS, 4).await;
    users.wait_for_quantity(ssd, TEA, 4).await;
}
