//! The price of an order is fixed when it is placed.

use crate::{Orders, euros, id_of};
use off_testkit::LENTILS;
use serde_json::{Value, json};

/// Sets the list price of lentils.
async fn set_price(orders: &Orders, cents: i64) {
    sqlx::query("UPDATE catalog.products SET price_cents = $2 WHERE barcode = $1")
        .bind(LENTILS)
        .bind(cents)
        .execute(&orders.world.database.pool)
        .await
        .unwrap();
}

/// The body of an order of three lentils with this expected price.
fn expecting(orders: &Orders, total: Value) -> Value {
    let mut body = orders.order_body(LENTILS, 3);
    body["expected_total"] = total;
    body
}

#[tokio::test]
async fn the_price_is_fixed_when_an_order_is_placed() {
    let orders = Orders::start().await;
    set_price(&orders, 250).await;
    let placed = orders.place(LENTILS, 3).await;
    let owner: i64 = sqlx::query_scalar("SELECT user_id FROM users.devices WHERE id = $1")
        .bind(orders.ssd)
        .fetch_one(&orders.world.database.pool)
        .await
        .unwrap();
    assert_eq!(placed["user_id"], owner);
    assert_eq!((&placed["unit_price"], &placed["total"]), (&euros(250), &euros(750)));

    set_price(&orders, 999).await;
    let event = orders.wait_for_announcements(1).await.remove(0);
    assert_eq!(serde_json::from_slice::<Value>(&event.payload).unwrap(), placed);
    let row: (i64, i64) = sqlx::query_as("SELECT user_id, unit_price FROM orders.product_orders WHERE id = $1")
        .bind(id_of(&placed).0)
        .fetch_one(&orders.world.database.pool)
        .await
        .unwrap();
    assert_eq!(row, (owner, 250));
    let found = orders.find(&placed).await.body;
    assert_eq!((&found["unit_price"], &found["total"]), (&euros(250), &euros(750)));
    assert_eq!(orders.http().get("/api/orders?status=pending").await.body["orders"][0], placed);
    orders.end().await;
}

#[tokio::test]
async fn an_order_at_another_price_than_the_expected_one_is_not_placed() {
    let orders = Orders::start().await;
    set_price(&orders, 250).await;
    let right = orders.http().post("/api/orders", &expecting(&orders, euros(750))).await;
    assert_eq!((right.status.as_u16(), &right.body["total"]), (201, &euros(750)));
    for wrong in [749, 751, 0] {
        let refused = orders.http().post("/api/orders", &expecting(&orders, euros(wrong))).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (409, "price_changed"));
        assert!(refused.body["detail"].as_str().unwrap().contains("7.50 EUR"), "{refused:?}");
    }
    assert_eq!(orders.count_orders().await, 1);
    assert_eq!(orders.wait_for_announcements(1).await.len(), 1);
    orders.end().await;
}

#[tokio::test]
async fn an_unreadable_expected_price_is_an_invalid_field_beside_others() {
    let orders = Orders::start().await;
    for wrong in [json!(750), json!("7.50 EUR"), json!({"amount": 750, "currency": "USD"}), json!({"amount": -1})] {
        let refused = orders.http().post("/api/orders", &expecting(&orders, wrong)).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (422, "invalid_body"), "{refused:?}");
        assert_eq!(refused.wrong_fields(), ["expected_total"]);
    }
    let mut body = expecting(&orders, json!(750));
    body["quantity"] = json!(0);
    assert_eq!(orders.http().post("/api/orders", &body).await.wrong_fields(), ["quantity", "expected_total"]);
    assert_eq!(orders.count_orders().await, 0);
    orders.end().await;
}

#[tokio::test]
async fn a_repeated_request_returns_the_order_at_its_first_price() {
    let orders = Orders::start().await;
    set_price(&orders, 250).await;
    let body = expecting(&orders, euros(750));
    let first = orders.http().post_with_key("/api/orders", "breakfast", &body).await;
    assert_eq!(first.status, 201);
    set_price(&orders, 999).await;
    let again = orders.http().post_with_key("/api/orders", "breakfast", &body).await;
    assert_eq!((again.status.as_u16(), &again.body), (201, &first.body));
    let new = orders.http().post_with_key("/api/orders", "lunch", &body).await;
    assert_eq!(new.code(), "price_changed");
    assert_eq!(orders.count_orders().await, 1);
    orders.end().await;
}
