//! Placing, finding and listing orders.

use crate::Orders;
use futures::future::join_all;
use off_testkit::{BISCUITS, LENTILS, TEA};
use serde_json::json;

#[tokio::test]
async fn an_order_is_stored_published_and_returned() {
    let orders = Orders::start().await;
    let answer = orders.http().post("/api/orders", &orders.order_body(LENTILS, 3)).await;
    assert_eq!(answer.status, 201);
    let order = &answer.body;
    assert_eq!(order["ssd_id"], orders.ssd);
    assert_eq!(order["barcode"], LENTILS);
    assert_eq!(order["quantity"], 3);
    assert_eq!(order["status"], "pending");

    let found = orders.http().get(answer.header("location")).await;
    assert_eq!(found.status, 200);
    assert_eq!(found.body["id"], order["id"]);
    assert_eq!(found.body["history"], json!([{"status": "pending", "at": order["timestamp"]}]));

    let announced = orders.wait_for_announcements(1).await;
    let headers = announced[0].headers.as_ref().unwrap();
    let id = order["id"].as_str().unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&announced[0].payload).unwrap(), *order);
    assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), format!("{id}:pending"));
    assert_eq!(headers.get("ce-id").unwrap().as_str(), format!("{id}:pending"));
    assert_eq!(headers.get("ce-type").unwrap().as_str(), "off.orders.pending.v1");
    assert_eq!(headers.get("ce-source").unwrap().as_str(), "/orders");
    orders.end().await;
}

#[tokio::test]
async fn the_event_of_an_order_has_the_trace_of_its_request() {
    let orders = Orders::start().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = orders.http().request(reqwest::Method::POST, "/api/orders").header("traceparent", traceparent);
    assert_eq!(request.json(&orders.order_body(LENTILS, 1)).send().await.unwrap().status(), 201);
    let announced = orders.wait_for_announcements(1).await;
    let header = announced[0].headers.as_ref().unwrap().get("traceparent").unwrap().as_str();
    assert!(header.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{header}");
    orders.end().await;
}

#[tokio::test]
async fn concurrent_orders_are_each_placed_and_published_once() {
    let orders = Orders::start().await;
    let placed = (1..=200).map(|quantity| {
        let (http, order_body) = (orders.http().clone(), orders.order_body(TEA, quantity));
        async move { http.post("/api/orders", &order_body).await }
    });
    let answers = join_all(placed).await;
    assert!(answers.iter().all(|answer| answer.status == 201));
    let mut quantities: Vec<i64> = answers.iter().map(|answer| answer.body["quantity"].as_i64().unwrap()).collect();
    quantities.sort_unstable();
    assert_eq!(quantities, (1..=200).collect::<Vec<_>>());
    assert_eq!(orders.count_orders().await, 200);
    let announced = orders.wait_for_announcements(200).await;
    assert_eq!(announced.len(), 200);
    // Orders that share a transaction keep their own times.
    for message in announced {
        let order: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        let time = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap();
        let header = message.headers.as_ref().unwrap().get("ce-time").unwrap().as_str().to_owned();
        assert_eq!(time(&header), time(order["timestamp"].as_str().unwrap()));
    }
    orders.end().await;
}

#[tokio::test]
async fn an_unknown_device_or_product_is_rejected_and_other_orders_are_placed() {
    let orders = Orders::start().await;
    let unknown_device =
        orders.http().post("/api/orders", &json!({"ssd_id": 999, "barcode": LENTILS, "quantity": 1})).await;
    assert_eq!((unknown_device.status.as_u16(), unknown_device.code()), (422, "invalid_body"));
    assert_eq!(unknown_device.wrong_fields(), ["ssd_id"]);
    let both =
        orders.http().post("/api/orders", &json!({"ssd_id": 999, "barcode": "4242424242424", "quantity": 1})).await;
    assert_eq!(both.wrong_fields(), ["ssd_id", "barcode"]);
    let good = orders.place(LENTILS, 1).await;
    assert_eq!(orders.count_orders().await, 1);
    assert_eq!(orders.find(&good).await.status, 200);
    orders.end().await;
}

#[tokio::test]
async fn a_repeated_request_with_a_key_places_one_order() {
    let orders = Orders::start().await;
    let order_body = orders.order_body(BISCUITS, 2);
    let first = orders.http().post_with_key("/api/orders", "breakfast", &order_body).await;
    assert_eq!(first.status, 201);
    orders.ship(&first.body).await;
    orders.wait_until_caught_up().await;

    let again = orders.http().post_with_key("/api/orders", "breakfast", &order_body).await;
    assert_eq!((again.status.as_u16(), &again.body), (201, &first.body));
    assert_eq!(again.header("location"), first.header("location"));
    let other = orders.http().post_with_key("/api/orders", "breakfast", &orders.order_body(BISCUITS, 3)).await;
    assert_eq!((other.status.as_u16(), other.code()), (422, "idempotency_key_reused"));
    let unusable = orders.http().post_with_key("/api/orders", "two words", &order_body).await;
    assert_eq!(unusable.wrong_fields(), ["Idempotency-Key"]);
    assert_eq!(orders.count_orders().await, 1);
    // The next order is published after all events of the first.
    orders.place(LENTILS, 2).await;
    assert_eq!(orders.wait_for_announcements(2).await.len(), 2);
    orders.end().await;
}

#[tokio::test]
async fn two_devices_may_use_the_same_key() {
    let orders = Orders::start().await;
    let neighbor = orders.world.add_device().await;
    let ours = orders.http().post_with_key("/api/orders", "breakfast-1", &orders.order_body(TEA, 1)).await;
    let order_body = json!({"ssd_id": neighbor, "barcode": BISCUITS, "quantity": 2});
    let theirs = orders.http().post_with_key("/api/orders", "breakfast-1", &order_body).await;
    assert_eq!((ours.status.as_u16(), theirs.status.as_u16()), (201, 201), "{theirs:?}");
    assert_eq!(orders.http().post_with_key("/api/orders", "breakfast-1", &order_body).await.body, theirs.body);
    assert_eq!(orders.count_orders().await, 2);
    orders.end().await;
}

#[tokio::test]
async fn two_keys_in_one_request_are_rejected() {
    let orders = Orders::start().await;
    let request = orders.http().request(reqwest::Method::POST, "/api/orders");
    let request = request.header("Idempotency-Key", "one").header("Idempotency-Key", "two");
    let answer = request.json(&orders.order_body(TEA, 1)).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "repeated_idempotency_key");
    assert_eq!(orders.count_orders().await, 0);
    orders.end().await;
}

#[tokio::test]
async fn concurrent_requests_with_one_key_place_one_order() {
    let orders = Orders::start().await;
    let same = (0..50).map(|_| {
        let (http, order_body) = (orders.http().clone(), orders.order_body(TEA, 2));
        async move { http.post_with_key("/api/orders", "impatient", &order_body).await }
    });
    let answers = join_all(same).await;
    assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body));
    assert_eq!(orders.count_orders().await, 1);
    orders.end().await;
}

#[tokio::test]
async fn orders_are_listed_newest_first_page_by_page() {
    let orders = Orders::start().await;
    for quantity in 1..=5 {
        orders.place(LENTILS, quantity).await;
    }
    let mut quantities = Vec::new();
    let mut path = "/api/orders?limit=2&status=pending".to_owned();
    loop {
        let page = orders.http().get(&path).await;
        assert_eq!(page.status, 200);
        let on_page = page.body["orders"].as_array().unwrap();
        quantities.extend(on_page.iter().map(|order| order["quantity"].as_i64().unwrap()));
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/api/orders?limit=2&status=pending&cursor={cursor}");
    }
    assert_eq!(quantities, [5, 4, 3, 2, 1]);
    let other = orders.world.add_device().await;
    let theirs = orders.http().post("/api/orders", &json!({"ssd_id": other, "barcode": TEA, "quantity": 9})).await;
    let listed = orders.http().get(&format!("/api/orders?ssd_id={other}")).await;
    assert_eq!(listed.body, json!({"orders": [theirs.body]}));
    let none = orders.http().get("/api/orders?status=completed").await;
    assert_eq!(none.body, json!({"orders": []}));
    orders.end().await;
}
