//! Invalid requests.

use crate::Orders;
use off_testkit::LENTILS;
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn an_invalid_body_is_rejected_with_a_clear_error() {
    let orders = Orders::start().await;
    for (body, status, code) in [
        ("", 400, "malformed_json"),
        ("{\"ssd_id\": 1", 400, "malformed_json"),
        (r#"{"ssd_id": 1, "barcode": "2000000000015", "quantity": 1} and more"#, 400, "malformed_json"),
        ("{\"ssd_id\": 1, \"barcode\": \"\u{0}\"}", 400, "malformed_json"),
        ("[]", 422, "invalid_body"),
        (r#"[1, "2000000000015", 1]"#, 422, "invalid_body"),
        ("{}", 422, "invalid_body"),
        ("null", 422, "invalid_body"),
    ] {
        let answer = orders.http().post_text("/api/orders", body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{body}");
    }
    let empty = orders.http().post_text("/api/orders", "{}").await;
    assert_eq!(empty.wrong_fields(), ["ssd_id", "barcode", "quantity"]);
    let huge = orders.http().post_text("/api/orders", vec![b' '; 100 * 1024]).await;
    assert_eq!((huge.status.as_u16(), huge.code()), (413, "too_large"));
    let form = orders.http().request(Method::POST, "/api/orders").body("ssd_id=1").send().await.unwrap();
    assert_eq!(form.status(), 415);
    let compressed = orders.http().request(Method::POST, "/api/orders").header("content-type", "application/json");
    let compressed = compressed.header("content-encoding", "gzip").body("{}").send().await.unwrap();
    assert_eq!(compressed.status(), 415);
    let wrong_method = orders.http().request(Method::DELETE, "/api/orders").send().await.unwrap();
    assert_eq!(wrong_method.status(), 405);
    assert_eq!(orders.count_orders().await, 0);
    orders.end().await;
}

#[tokio::test]
async fn every_invalid_field_is_reported() {
    let orders = Orders::start().await;
    for (ssd, barcode, quantity, wrong) in [
        (json!(1), json!(LENTILS), json!(0), vec!["quantity"]),
        (json!(1), json!(LENTILS), json!(1001), vec!["quantity"]),
        (json!(-1), json!("x\u{0}"), json!(2), vec!["ssd_id", "barcode"]),
        (json!("1"), json!(LENTILS), json!(2), vec!["ssd_id"]),
        (json!(1), json!(LENTILS), json!(1.5), vec!["quantity"]),
        (json!(1), json!("9".repeat(60_000)), json!(1), vec!["barcode"]),
        (json!(null), json!([]), json!("3"), vec!["ssd_id", "barcode", "quantity"]),
    ] {
        let answer =
            orders.http().post("/api/orders", &json!({"ssd_id": ssd, "barcode": barcode, "quantity": quantity})).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (422, "invalid_body"), "{answer:?}");
        assert_eq!(answer.wrong_fields(), wrong, "{answer:?}");
    }
    assert_eq!(orders.count_orders().await, 0);
    orders.end().await;
}

#[tokio::test]
async fn missing_resources_are_404_and_invalid_parameters_400() {
    let orders = Orders::start().await;
    for path in
        ["/api/orders/01890a5d-ac96-774b-bcce-b302099a8057", "/api/orders/lentils", "/api/order", "/api/orders/%00"]
    {
        let answer = orders.http().get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{path}");
    }
    for path in ["/api/orders?status=lost", "/api/orders?limit=0", "/api/orders?limit=501", "/api/orders?cursor=x"] {
        let answer = orders.http().get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "invalid_query"), "{path}");
    }
    orders.end().await;
}
