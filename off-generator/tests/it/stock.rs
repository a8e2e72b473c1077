//! Devices consume products, and order what is low.

use crate::TestSystem;
use off_events::streams;
use off_generator::Config;
use off_testkit::{LENTILS, eventually};
use serde_json::{Value, json};

/// Publishes that there is too little on the shelf of a device.
async fn report_low(system: &TestSystem, ssd_id: i64) {
    let low = json!({"ssd_id": ssd_id, "barcode": LENTILS, "quantity": 1, "reorder_point": 2,
        "timestamp": "2026-01-01T00:00:00.000007Z"});
    system.world.publish("stock.low", &low).await;
}

/// Waits until a device that is low has ordered.
async fn wait_until_reordered(system: &TestSystem) {
    eventually("an order of a device that is low", || async {
        sqlx::query_scalar::<_, i32>("SELECT quantity FROM orders.product_orders WHERE idempotency_key LIKE 'low:%'")
            .fetch_optional(&system.world.database.pool)
            .await
            .expect("the orders can be listed")
    })
    .await;
}

#[tokio::test]
async fn a_generated_device_that_is_low_orders_once_and_a_real_one_does_not() {
    let system = TestSystem::new().await;
    let real = system.world.add_device().await;
    let generator = system.start(Config { households: 1, ..system.config() }).await;
    system.wait_until_registered(2).await;
    let generated = system.list_generated_devices().await[0].0;
    report_low(&system, generated).await;
    report_low(&system, generated).await;
    report_low(&system, real).await;
    system.world.publish_bytes("stock.low", b"poison".to_vec()).await;
    system.world.wait_for_dead_letters(1).await;
    system.world.caught_up(&streams::DEVICES_LOW).await;
    let placed = system.list_orders().await;
    assert_eq!(placed.len(), 1, "{placed:?}");
    assert_eq!((&placed[0]["ssd_id"], &placed[0]["barcode"]), (&json!(generated), &json!(LENTILS)));
    generator.stop().await;
}

#[tokio::test]
async fn an_ordered_product_is_consumed_and_reordered() {
    let system = TestSystem::new().await;
    let generator = system.start(Config { households: 1, rate: 20.0, registration_weight: 0, ..system.config() }).await;
    let reports = system.world.wait_for_messages("STOCK", "stock.consumed", 1).await;
    let report: Value = serde_json::from_slice(&reports[0].payload).expect("JSON");
    let placed = system.list_orders().await;
    let is_ordered = |order: &Value| (&order["ssd_id"], &order["barcode"]) == (&report["ssd_id"], &report["barcode"]);
    assert!(placed.iter().any(is_ordered), "{report} in {placed:?}");
    // Nothing is delivered in this test, so the product is low.
    wait_until_reordered(&system).await;
    generator.stop().await;
}
