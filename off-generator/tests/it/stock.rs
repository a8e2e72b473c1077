//! Devices consume products, and order what is low.

use crate::{TestSystem, find_free_port};
use off_events::{StockConsumed, StockLow, streams};
use off_generator::Config;
use off_testkit::{LENTILS, Leftover, eventually};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

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

#[tokio::test]
async fn a_message_that_a_stopped_generator_could_not_handle_is_delivered_again_at_once() {
    let system = TestSystem::new().await;
    let households = Config { households: 1, ..system.config() };
    let orders_url = format!("http://127.0.0.1:{}", find_free_port()).parse().expect("a URL");
    let generator = system.start(Config { orders_url, ..households.clone() }).await;
    system.wait_until_registered(1).await;
    system.report_low(system.list_generated_devices().await[0].0, LENTILS).await;
    eventually("the generator retries", || async {
        let backlog = system.world.nats.bus.backlog(&streams::DEVICES_LOW).await.expect("the broker answers");
        (backlog.unacknowledged == 1).then_some(())
    })
    .await;
    generator.stop().await;
    let stopped_at = Instant::now();
    let generator = system.start(households).await;
    system.wait_until_reordered().await;
    // Without a NAK the broker waits for 30 s.
    assert!(stopped_at.elapsed() < Duration::from_secs(15), "{:?}", stopped_at.elapsed());
    generator.stop().await;
    system.end().await;
}
