//! An operator looks at the broker, at what is late, and at the imports of the catalog.

use crate::Operator;
use off_events::{
    Order,
    streams::{CONSUMERS, STREAMS},
};
use serde_json::json;

#[tokio::test]
async fn all_streams_and_consumers_are_listed_with_their_backlogs() {
    let operator = Operator::start().await;
    operator.world.nats.publish(Order::PENDING, &json!({})).await;
    let streams = operator.http().get("/api/operator/streams").await.body["streams"].as_array().unwrap().clone();
    assert_eq!(streams.len(), STREAMS.len());
    let consumers: usize = streams.iter().map(|stream| stream["consumers"].as_array().unwrap().len()).sum();
    assert_eq!(consumers, CONSUMERS.len());
    let orders = streams.iter().find(|stream| stream["name"] == "ORDERS").unwrap();
    assert!(orders["messages"] == 1 && orders["oldest_at"].is_string(), "{orders}");
    let billing = orders["consumers"].as_array().unwrap().iter().find(|one| one["name"] == "billing-pending").unwrap();
    assert_eq!(
        billing,
        &json!({"name": "billing-pending", "service": "billing", "is_missing": false, "waiting": 1, "unacknowledged": 0, "redelivered": 0,
            "pulls": 0, "acknowledged_through": 0})
    );
    operator.end(&[]).await;
}

#[tokio::test]
async fn a_missing_stream_or_consumer_is_named_and_hides_nothing() {
    let operator = Operator::start().await;
    let jetstream = &operator.world.nats.bus.jetstream;
    jetstream.delete_consumer_from_stream("billing-pending", "ORDERS").await.unwrap();
    jetstream.delete_stream("USERS").await.unwrap();
    let streams = operator.http().get("/api/operator/streams").await.body["streams"].as_array().unwrap().clone();
    assert_eq!(streams.len(), STREAMS.len());
    for stream in &streams {
        assert_eq!(stream["is_missing"], stream["name"] == "USERS", "{stream}");
        for consumer in stream["consumers"].as_array().unwrap() {
            assert_eq!(consumer["is_missing"], consumer["name"] == "billing-pending", "{consumer}");
        }
    }
    operator.service.stop().await;
    operator.world.abandon();
}

#[tokio::test]
async fn overdue_orders_are_listed_and_imports_with_what_they_rejected() {
    let operator = Operator::start().await;
    operator.world.add_device().await;
    sqlx::raw_sql(
        "INSERT INTO orders.product_orders (id, ssd_id, user_id, barcode, quantity, unit_price, placed_at, deadline)
         VALUES ('01890a5d-ac97-774b-bcce-b302099a8058', 1, 1, '2000000000015', 1, 299, now(), now() - interval '1 h'),
                ('01890a5d-ac98-774b-bcce-b302099a8058', 1, 1, '2000000000015', 1, 299, now(), now() + interval '1 h');
         INSERT INTO orders.late_orders VALUES ('01890a5d-ac97-774b-bcce-b302099a8058', now(), 3);
         INSERT INTO catalog.imports (source, rules, name, place, line, report)
         VALUES ('a', 'b', 'products.jsonl', 0, 0,
                 '{\"read\": 5, \"passed_over\": 1, \"products\": 2, \"loaded\": 2, \"updated\": 0, \"unchanged\": 0,
                   \"rejected\": {\"no-name\": {\"count\": 2, \"first\": 3}}, \"corrected\": {}}');
         INSERT INTO catalog.rejects VALUES (1, 3, 'no name', '4006381333931'), (1, 4, 'no name', NULL)",
    )
    .execute(&operator.world.database.pool)
    .await
    .unwrap();
    let http = operator.http();
    let overdue = http.get("/api/operator/overdue-orders").await.body["orders"].as_array().unwrap().clone();
    let [order] = &overdue[..] else { panic!("one order is overdue: {overdue:?}") };
    assert_eq!((&order["status"], &order["announcements"]), (&json!("pending"), &json!(3)), "{order}");

    let imports = http.get("/api/operator/imports").await.body;
    let import = &imports["imports"][0];
    assert_eq!(import["rejected"], json!([{"reason": "no-name", "count": 2, "first_line": 3}]), "{imports}");
    assert!(import["read"] == 5 && import["new"] == 2 && import["finished_at"].is_null(), "{import}");
    let rejects = http.get("/api/operator/imports/1/rejects?limit=1").await.body;
    let first = json!({"line": 3, "reason": "no name", "barcode": "4006381333931"});
    assert_eq!((&rejects["rejects"], &rejects["next_cursor"]), (&json!([first]), &json!(3)));
    let rest = http.get("/api/operator/imports/1/rejects?limit=1&cursor=3").await.body;
    assert_eq!(rest, json!({"rejects": [{"line": 4, "reason": "no name", "barcode": null}]}));
    assert_eq!(http.get("/api/operator/imports/2/rejects").await.status, 404);
    sqlx::query("DELETE FROM orders.product_orders").execute(&operator.world.database.pool).await.unwrap();
    operator.end(&[]).await;
}
