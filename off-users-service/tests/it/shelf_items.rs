//! When products are reordered, and what happened on a shelf.

use crate::Users;
use off_testkit::{Answer, Http, LENTILS, TEA};
use serde_json::{Value, json};

/// A person with a device; returns the device and a client with their token.
async fn person(users: &Users) -> (i64, Http) {
    let ssd = users.world.add_device().await;
    let owner = "SELECT user_id FROM users.devices WHERE id = $1";
    let user: i64 = sqlx::query_scalar(owner).bind(ssd).fetch_one(&users.world.database.pool).await.unwrap();
    (ssd, users.http().as_person(user))
}

async fn change(http: &Http, ssd: i64, barcode: &str, change: Value) -> Answer {
    http.put(&format!("/api/devices/{ssd}/shelf/{barcode}"), &change).await
}

#[tokio::test]
async fn a_person_changes_when_a_product_is_reordered() {
    let users = Users::start().await;
    let (ssd, ada) = person(&users).await;
    users.deliver(ssd, LENTILS, 5).await;
    users.assert_shelf_holds(ssd, LENTILS, 5).await;
    let changed = change(&ada, ssd, LENTILS, json!({"reorder_point": 4})).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!((&changed.body["reorder_point"], &changed.body["is_paused"]), (&json!(4), &json!(false)));
    // It is low by this, and says so once.
    assert!(change(&ada, ssd, LENTILS, json!({"reorder_point": 5})).await.body["low_since"].is_string());
    assert_eq!(change(&ada, ssd, LENTILS, json!({"reorder_point": 6})).await.status, 200);
    assert_eq!(users.wait_for_low(1).await.len(), 1);

    // While it is paused it is not low, whatever is taken.
    let paused = change(&ada, ssd, LENTILS, json!({"is_paused": true})).await.body;
    assert!(paused["is_paused"] == true && paused.get("low_since").is_none(), "{paused}");
    users.consume("all", ssd, LENTILS, 5).await;
    users.assert_shelf_holds(ssd, LENTILS, 0).await;
    assert_eq!(users.wait_for_low(1).await.len(), 1);
    assert!(change(&ada, ssd, LENTILS, json!({"is_paused": false})).await.body["low_since"].is_string());
    assert_eq!(users.wait_for_low(2).await.len(), 2);

    // A new product is low at once: there is none of it.
    let new = change(&ada, ssd, TEA, json!({})).await.body;
    assert_eq!((&new["quantity"], &new["reorder_point"], &new["name"]), (&json!(0), &json!(2), &json!("Green tea")));
    assert_eq!(users.wait_for_low(3).await.len(), 3);
    users.end().await;
}

#[tokio::test]
async fn nobody_changes_the_shelf_of_somebody_else_or_an_unknown_product() {
    let users = Users::start().await;
    let ((ssd, ada), (_, bob)) = (person(&users).await, person(&users).await);
    assert_eq!(change(&bob, ssd, LENTILS, json!({"reorder_point": 1})).await.status, 404);
    for unknown in ["99999999", "nonsense"] {
        assert_eq!(change(&ada, ssd, unknown, json!({"reorder_point": 1})).await.status, 404, "{unknown}");
    }
    for wrong in [json!({"reorder_point": -1}), json!({"reorder_point": 1001}), json!({"reorder_point": "x"})] {
        assert_eq!(change(&ada, ssd, LENTILS, wrong).await.wrong_fields(), ["reorder_point"]);
    }
    assert_eq!(change(&ada, ssd, LENTILS, json!({"is_paused": 1})).await.wrong_fields(), ["is_paused"]);
    assert_eq!(
        users.http().anonymous().put(&format!("/api/devices/{ssd}/shelf/{LENTILS}"), &json!({})).await.status,
        401
    );
    users.end().await;
}

#[tokio::test]
async fn the_stock_over_time_follows_from_deliveries_and_consumption() {
    let users = Users::start().await;
    let ((ssd, ada), (_, bob)) = (person(&users).await, person(&users).await);
    let order = users.deliver(ssd, LENTILS, 10).await;
    users.assert_shelf_holds(ssd, LENTILS, 10).await;
    users.consume("breakfast", ssd, LENTILS, 4).await;
    users.assert_shelf_holds(ssd, LENTILS, 6).await;
    // Both happened some hours ago.
    for statement in [
        "UPDATE users.deliveries SET delivered_at = now() - interval '150 minutes'",
        "UPDATE users.consumptions SET consumed_at = now() - interval '30 minutes'",
    ] {
        sqlx::query(statement).execute(&users.world.database.pool).await.unwrap();
    }
    let history = ada.get(&format!("/api/devices/{ssd}/history?hours=4&points=4")).await;
    assert_eq!(history.status, 200, "{history:?}");
    let points = history.body["items"][0]["points"].as_array().unwrap();
    let field = |name: &str| points.iter().map(|point| point[name].as_i64().unwrap()).collect::<Vec<_>>();
    assert_eq!((field("quantity"), field("delivered")), (vec![0, 10, 10, 6], vec![0, 10, 0, 0]));
    assert_eq!(field("taken"), [0, 0, 0, 4]);

    let order = order["id"].as_str().unwrap();
    let path = format!("/api/devices/{ssd}/deliveries/{order}");
    let delivery = ada.get(&path).await.body;
    assert_eq!((&delivery["quantity"], &delivery["before"], &delivery["after"]), (&json!(10), &json!(0), &json!(10)));
    for (http, path) in [
        (&bob, path.clone()),
        (&bob, format!("/api/devices/{ssd}/history")),
        (&ada, path.replace(order, "01890a5d-ac96-774b-bcce-b302099a8057")),
    ] {
        assert_eq!(http.get(&path).await.status, 404, "{path}");
    }
    for wrong in ["hours=0", "hours=8785", "points=1", "points=501", "hours=x"] {
        assert_eq!(ada.get(&format!("/api/devices/{ssd}/history?{wrong}")).await.status, 400, "{wrong}");
    }
    users.end().await;
}
