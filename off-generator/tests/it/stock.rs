//! Devices consume products, and order what is low.

use crate::TestSystem;
use off_events::{StockConsumed, StockLow, streams};
use off_generator::Config;
use off_testkit::{LENTILS, Leftover};
use serde_json::{Value, json};

#[tokio::test]
async fn a_generated_device_that_is_low_orders_once_and_a_real_one_does_not() {
    let system = TestSystem::new().await;
    let real = system.world.add_device().await;
    let generator = system.start(Config { households: 1, ..system.config() }).await;
    system.wait_until_registered(2).await;
    let generated = system.list_generated_devices().await[0].0;
    system.report_low(generated, LENTILS).await;
    system.report_low(generated, LENTILS).await;
    system.report_low(real, LENTILS).await;
    system.world.nats.publish_bytes(StockLow::SUBJECT, "poison").await;
    system.world.nats.wait_for_dead_letters(1).await;
    system.world.nats.wait_until_caught_up(&streams::DEVICES_LOW).await;
    let placed = system.list_orders().await;
    assert_eq!(placed.len(), 1, "{placed:?}");
    assert_eq!((&placed[0]["ssd_id"], &placed[0]["barcode"]), (&json!(generated), &json!(LENTILS)));
    generator.stop().await;
    system.end_leaving(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn an_ordered_product_is_consumed_and_reordered() {
    let system = TestSystem::new().await;
    let generator = system.start(Config { households: 1, rate: 20.0, registration_weight: 0, ..system.config() }).await;
    let reports = system.world.nats.wait_for_messages(streams::STOCK.name, StockConsumed::SUBJECT, 1).await;
    let report: Value = serde_json::from_slice(&reports[0].payload).expect("JSON");
    let placed = system.list_orders().await;
    let is_ordered = |order: &Value| (&order["ssd_id"], &order["barcode"]) == (&report["ssd_id"], &report["barcode"]);
    assert!(placed.iter().any(is_ordered), "{report} in {placed:?}");
    // Nothing is delivered in this test, so the product is low.
    system.wait_until_reordered().await;
    generator.stop().await;
    system.end().await;
}
