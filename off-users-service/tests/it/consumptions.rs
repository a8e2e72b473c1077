//! Devices report consumption over HTTP.

use crate::Users;
use off_testkit::{BISCUITS, LENTILS, TEA};
use reqwest::Method;
use serde_json::{Value, json};

fn report(id: &str, barcode: &str, quantity: i64) -> Value {
    json!({"id": id, "barcode": barcode, "quantity": quantity, "timestamp": "2026-01-01T00:00:00Z"})
}

fn path(ssd: i64) -> String {
    format!("/api/devices/{ssd}/consumptions")
}

#[tokio::test]
async fn a_device_reports_over_http_and_each_report_counts_once() {
    let users = Users::start().await;
    let ada = users.register_person("ada@example.org", &["02:00:00:00:00:01"]).await;
    let ssd = ada.ssds[0];
    for barcode in [LENTILS, TEA] {
        users.deliver(ssd, barcode, 10).await;
        users.assert_shelf_holds(ssd, barcode, 10).await;
    }
    let device = users.http().as_device(ssd);
    let breakfast = json!({"consumptions": [
        report("lentils", LENTILS, 3), report("tea", TEA, 9), report("lentils", LENTILS, 3)]});
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let request = device.request(Method::POST, &path(ssd)).json(&breakfast);
    let request = request.header("traceparent", format!("00-{trace_id}-b7ad6b7169203331-01"));
    let counted = device.send(request).await;
    assert_eq!((counted.status.as_u16(), &counted.body), (200, &json!({"accepted": 2, "repeated": 1})));
    // The answer comes after the commit.
    let shelf = device.get(&format!("/api/devices/{ssd}")).await.body["shelf"].clone();
    assert_eq!((&shelf[0]["quantity"], &shelf[1]["quantity"]), (&json!(1), &json!(7)));
    let low = users.wait_for_low(1).await;
    assert_eq!(serde_json::from_slice::<Value>(&low[0].payload).unwrap()["barcode"], TEA);
    let trace = low[0].headers.as_ref().unwrap().get("traceparent").unwrap().as_str();
    assert!(trace.contains(trace_id), "{trace}");

    // The answer got lost: the device repeats the request, and sends the same by NATS.
    let repeated = device.post(&path(ssd), &breakfast).await;
    assert_eq!(repeated.body, json!({"accepted": 0, "repeated": 3}));
    users.consume("lentils", ssd, LENTILS, 3).await;
    users.wait_until_caught_up().await;
    users.assert_shelf_holds(ssd, LENTILS, 7).await;
    // The owner may report for it.
    let of_owner = json!({"consumptions": [report("owner", LENTILS, 1)]});
    let counted = users.http().as_person(ada.id).post(&path(ssd), &of_owner).await;
    assert_eq!(counted.body, json!({"accepted": 1, "repeated": 0}));
    users.assert_shelf_holds(ssd, LENTILS, 6).await;
    users.end().await;
}

#[tokio::test]
async fn of_concurrent_repetitions_one_counts() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.deliver(ssd, LENTILS, 10).await;
    users.assert_shelf_holds(ssd, LENTILS, 10).await;
    let requests = (0..8).map(|_| {
        let device = users.http().as_device(ssd);
        async move { device.post(&path(ssd), &json!({"consumptions": [report("one", LENTILS, 1)]})).await }
    });
    let answers = futures::future::join_all(requests).await;
    let accepted: i64 = answers.iter().map(|answer| answer.body["accepted"].as_i64().unwrap()).sum();
    assert_eq!(accepted, 1, "{answers:?}");
    users.assert_shelf_holds(ssd, LENTILS, 9).await;
    users.end().await;
}

#[tokio::test]
async fn a_request_with_an_invalid_report_counts_none_of_them() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.deliver(ssd, LENTILS, 10).await;
    users.assert_shelf_holds(ssd, LENTILS, 10).await;
    let device = users.http().as_device(ssd);
    let unknown = [report("a", LENTILS, 1), report("b", "4242424242424", 1), report("c", BISCUITS, 1)];
    let unknown = device.post(&path(ssd), &json!({"consumptions": unknown})).await;
    assert_eq!((unknown.status.as_u16(), unknown.code()), (422, "invalid_body"));
    assert_eq!(unknown.wrong_fields(), ["consumptions[1].barcode"]);

    let mut late = report("d", LENTILS, 1);
    late["timestamp"] = json!("yesterday");
    let invalid = [
        report("", LENTILS, 1),
        report("a\u{0}", LENTILS, 1),
        report(&"x".repeat(101), LENTILS, 1),
        report("b", "lentils", 1),
        report("c", LENTILS, 0),
        late,
        json!({}),
        report("e", LENTILS, 1),
    ];
    let invalid = device.post(&path(ssd), &json!({"consumptions": invalid})).await;
    let fields = [
        "[0].id",
        "[1].id",
        "[2].id",
        "[3].barcode",
        "[4].quantity",
        "[5].timestamp",
        "[6].id",
        "[6].barcode",
        "[6].quantity",
        "[6].timestamp",
    ];
    assert_eq!(invalid.wrong_fields(), fields.map(|field| format!("consumptions{field}")));
    for empty in [json!({}), json!({"consumptions": []}), json!({"consumptions": vec![json!({}); 501]})] {
        assert_eq!(device.post(&path(ssd), &empty).await.wrong_fields()[0], "consumptions");
    }
    let long = json!({"consumptions": [], "padding": "x".repeat(65 * 1024)});
    assert_eq!(device.post(&path(ssd), &long).await.code(), "too_large");
    users.assert_shelf_holds(ssd, LENTILS, 10).await;
    assert_eq!(users.count("users.consumptions").await, 0);
    users.end().await;
}

#[tokio::test]
async fn a_full_request_is_counted_at_once() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.deliver(ssd, LENTILS, 500).await;
    users.assert_shelf_holds(ssd, LENTILS, 500).await;
    let reports: Vec<Value> = (0..500).map(|number| report(&format!("{number}"), LENTILS, 1)).collect();
    let answer = users.http().as_device(ssd).post(&path(ssd), &json!({"consumptions": reports})).await;
    assert_eq!(answer.body, json!({"accepted": 500, "repeated": 0}));
    users.assert_shelf_holds(ssd, LENTILS, 0).await;
    users.end().await;
}
