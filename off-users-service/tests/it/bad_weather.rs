//! Bad input, and Postgres gone for a while.

use crate::{Users, ada};
use off_testkit::{LENTILS, World};
use serde_json::json;

#[tokio::test]
async fn every_wrong_field_of_a_registration_is_named() {
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
    let no_object = users.http().post("/api/register", &json!({"user": "Ada"})).await;
    assert_eq!(no_object.wrong_fields(), ["user"]);
    let malformed = users.http().post_text("/api/register", "{\"user\"").await;
    assert_eq!((malformed.status.as_u16(), malformed.code()), (400, "malformed_json"));
}

#[tokio::test]
async fn what_is_not_there_is_a_404_and_what_is_not_understood_a_400() {
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
async fn while_postgres_is_away_deliveries_wait_and_then_arrive_once() {
    let mut users = Users::start_in(World::with_own_postgres().await).await;
    let ssd = users.world.add_device().await;
    users.world.database.server.as_mut().unwrap().stop().await.unwrap();
    let order = json!({"id": uuid::Uuid::now_v7(), "ssd_id": ssd, "product_id": LENTILS,
        "timestamp": "2026-01-01T00:00:00Z", "quantity": 5, "status": "completed"});
    users.world.say("orders.completed", &order).await;
    let refused = users.http().post("/api/register", &ada("ada@example.org", &["02:00:00:00:00:01"])).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "unavailable"));
    users.world.database.server.as_mut().unwrap().start_again().await.unwrap();
    users.shelf_holds(ssd, LENTILS, 5).await;
    assert!(off_kit::bus::dead::list(&users.world.nats.bus).await.unwrap().is_empty());
}
