//! The OpenAPI document.

use crate::Orders;
use off_kit::Service;
use off_orders_service::OrdersService;

#[test]
fn the_openapi_document_matches_its_snapshot() {
    insta::assert_json_snapshot!(OrdersService::openapi());
}

#[tokio::test]
async fn the_document_is_served_without_a_token() {
    let orders = Orders::start().await;
    let served = orders.http().anonymous().get("/openapi.json").await;
    assert_eq!(served.body, serde_json::to_value(OrdersService::openapi()).unwrap());
    assert!(orders.health().get("/metrics").await.status.is_success());
    orders.end().await;
}
