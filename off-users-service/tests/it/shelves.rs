//! Deliveries, consumption and `stock.low`.

use crate::Users;
use off_events::streams;
use off_kit::Clock;
use off_testkit::{LENTILS, TEA, World};
use serde_json::{Value, json};
use uuid::Uuid;

fn completed_order(order: Uuid, ssd: i64, barcode: &str, quantity: i64) -> Value {
    json!({"id": order, "ssd_id": ssd, "barcode": barcode, "timestamp": "2026-01-01T00:00:00Z",
        "quantity": quantity, "status": "completed"})
}

fn consumption(id: &str, ssd: i64, barcode: &str, quantity: i64) -> Value {
    json!({"id": id, "ssd_id": ssd, "barcode": barcode, "timestamp": "2026-01-01T00:00:00Z", "quantity": quantity})
}

#[tokio::test]
async fn a_repeated_delivery_is_added_to_the_shelf_once() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    let order = Uuid::now_v7();
    for _ in 0..3 {
        users.world.publish("orders.completed", &completed_order(order, ssd, LENTILS, 5)).await;
    }
    users.world.publish("orders.completed", &completed_order(Uuid::now_v7(), ssd, LENTILS, 2)).await;
    users.wait_for_quantity(ssd, LENTILS, 7).await;
    users.world.caught_up(&streams::SHELVES_DELIVERED).await;
    users.wait_for_quantity(ssd, LENTILS, 7).await;
    let device = users.http().get(&format!("/api/devices/{ssd}")).await;
    let shelf = json!([{"barcode": LENTILS, "name": "Red lentils", "quantity": 7, "reorder_point": 2}]);
    assert_eq!(device.body["shelf"], shelf);
    users.service.stop().await;
}

#[tokio::test]
async fn a_repeated_consumption_counts_once_and_never_below_zero() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.world.publish("orders.completed", &completed_order(Uuid::now_v7(), ssd, LENTILS, 10)).await;
    users.wait_for_quantity(ssd, LENTILS, 10).await;
    for _ in 0..3 {
        users.world.publish("stock.consumed", &consumption("breakfast", ssd, LENTILS, 4)).await;
    }
    users.wait_for_quantity(ssd, LENTILS, 6).await;
    users.world.publish("stock.consumed", &consumption("feast", ssd, LENTILS, 100)).await;
    users.wait_for_quantity(ssd, LENTILS, 0).await;
    users.world.publish("stock.consumed", &consumption("crumbs", ssd, LENTILS, 1)).await;
    users.world.caught_up(&streams::SHELVES_CONSUMED).await;
    users.wait_for_quantity(ssd, LENTILS, 0).await;
    let dead_letters = off_kit::bus::dead_letters::list(&users.world.nats.bus).await.unwrap();
    assert!(dead_letters.is_empty(), "a repeated report must not become a dead letter");
}

#[tokio::test]
async fn an_invalid_traceparent_of_a_device_is_not_propagated() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.world.publish("orders.completed", &completed_order(Uuid::now_v7(), ssd, TEA, 5)).await;
    users.wait_for_quantity(ssd, TEA, 5).await;
    let mut headers = async_nats::HeaderMap::new();
    // If it were propagated, the outbound message would be larger than the broker accepts.
    headers.insert("traceparent", "a".repeat(65_000).as_str());
    let report = consumption("junk", ssd, TEA, 5).to_string();
    let jetstream = &users.world.nats.bus.jetstream;
    jetstream.publish_with_headers("stock.consumed", headers, report.into()).await.unwrap().await.unwrap();
    let low = users.world.wait_for_messages("STOCK", "stock.low", 1).await;
    assert!(low[0].headers.as_ref().unwrap().get("traceparent").is_none());
}

#[tokio::test]
async fn stock_low_is_published_once_until_restocked() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.world.publish("orders.completed", &completed_order(Uuid::now_v7(), ssd, TEA, 5)).await;
    users.wait_for_quantity(ssd, TEA, 5).await;
    for cup in 0..4 {
        users.world.publish("stock.consumed", &consumption(&format!("cup {cup}"), ssd, TEA, 1)).await;
    }
    users.wait_for_quantity(ssd, TEA, 1).await;
    let low = users.world.wait_for_messages("STOCK", "stock.low", 1).await;
    let first: Value = serde_json::from_slice(&low[0].payload).unwrap();
    assert_eq!((&first["ssd_id"], &first["barcode"], &first["quantity"]), (&json!(ssd), &json!(TEA), &json!(2)));

    users.world.publish("orders.completed", &completed_order(Uuid::now_v7(), ssd, TEA, 5)).await;
    users.wait_for_quantity(ssd, TEA, 6).await;
    assert_eq!(users.world.messages("STOCK", "stock.low").await.len(), 1);
    users.world.publish("stock.consumed", &consumption("party", ssd, TEA, 5)).await;
    let low = users.world.wait_for_messages("STOCK", "stock.low", 2).await;
    assert_eq!(serde_json::from_slice::<Value>(&low[1].payload).unwrap()["quantity"], 1);
}

#[tokio::test]
async fn invalid_messages_become_dead_letters_and_block_nothing() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.world.publish_bytes("orders.completed", b"\xff".to_vec()).await;
    users.world.publish("orders.completed", &completed_order(Uuid::now_v7(), 999, LENTILS, 1)).await;
    users.world.publish("orders.completed", &completed_order(Uuid::now_v7(), ssd, "4242424242424", 1)).await;
    users.world.publish("orders.completed", &completed_order(Uuid::now_v7(), ssd, LENTILS, 5)).await;
    users.wait_for_quantity(ssd, LENTILS, 5).await;
    let letters = users.world.wait_for_dead_letters(3).await;
    let count = |reason: &str| letters.iter().filter(|letter| letter.reason.contains(reason)).count();
    assert_eq!(count("there is no such device"), 1, "{letters:#?}");
    assert_eq!(count("the catalog has no such product"), 1, "{letters:#?}");
    assert_eq!(count("not readable"), 1, "{letters:#?}");
}

#[tokio::test]
async fn invalid_messages_of_devices_are_counted_and_dropped() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.world.publish("orders.completed", &completed_order(Uuid::now_v7(), ssd, LENTILS, 5)).await;
    users.wait_for_quantity(ssd, LENTILS, 5).await;
    users.world.publish("stock.consumed", &consumption("none", ssd, LENTILS, 0)).await;
    users.world.publish("stock.consumed", &consumption("", ssd, LENTILS, 1)).await;
    users.world.publish("stock.consumed", &consumption("nul\u{0}", ssd, LENTILS, 1)).await;
    users.world.publish("stock.consumed", &consumption(&"x".repeat(101), ssd, LENTILS, 1)).await;
    users.world.publish("stock.consumed", &consumption("stranger", 999, LENTILS, 1)).await;
    users.world.publish_bytes("stock.consumed", vec![b'.'; 900_000]).await;
    // Larger headers than a dead letter can have.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Junk", "x".repeat(65_300).as_str());
    let jetstream = &users.world.nats.bus.jetstream;
    let sent = jetstream.publish_with_headers("stock.consumed", headers, "junk".into()).await.unwrap();
    sent.await.unwrap();
    users.world.publish("stock.consumed", &consumption("good", ssd, LENTILS, 1)).await;
    users.wait_for_quantity(ssd, LENTILS, 4).await;
    users.world.caught_up(&streams::SHELVES_CONSUMED).await;
    assert!(off_kit::bus::dead_letters::list(&users.world.nats.bus).await.unwrap().is_empty());
    let metrics = users.health().get("/metrics").await.body;
    let dropped = "off_messages_dropped_total{consumer=\"shelves-consumed\"} 7";
    assert!(metrics.as_str().unwrap().contains(dropped), "{metrics}");
}

#[tokio::test]
async fn a_message_that_is_too_large_for_a_dead_letter_is_truncated() {
    let users = Users::start().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("A-Name", "kept");
    headers.insert("Junk", "x".repeat(60_000).as_str());
    let jetstream = &users.world.nats.bus.jetstream;
    let sent = jetstream.publish_with_headers("orders.completed", headers, vec![b'.'; 900_000].into()).await.unwrap();
    sent.await.unwrap();
    let letter = users.world.wait_for_dead_letters(1).await.remove(0);
    assert_eq!((letter.cut.join(" "), letter.body.len()), ("headers body".to_owned(), 64 * 1024));
    assert_eq!(letter.headers, [("A-Name".to_owned(), "kept".to_owned())]);
    let refused = off_kit::bus::dead_letters::replay(&users.world.nats.bus, letter.number, None).await.unwrap_err();
    assert!(refused.to_string().contains("too large to be kept whole"), "{refused}");
    users.world.caught_up(&streams::SHELVES_DELIVERED).await;
}

#[tokio::test]
async fn a_full_dead_letter_stream_blocks_nothing() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    let jetstream = &users.world.nats.bus.jetstream;
    let mut config = jetstream.get_stream("DEAD_LETTERS").await.unwrap().cached_info().config.clone();
    config.max_messages = 1;
    jetstream.update_stream(&config).await.unwrap();
    users.world.publish_bytes("orders.completed", b"one".to_vec()).await;
    users.world.wait_for_dead_letters(1).await;
    users.world.publish_bytes("orders.completed", b"two".to_vec()).await;
    users.world.publish("orders.completed", &completed_order(Uuid::now_v7(), ssd, LENTILS, 5)).await;
    users.wait_for_quantity(ssd, LENTILS, 5).await;
    users.world.caught_up(&streams::SHELVES_DELIVERED).await;
    assert_eq!(off_kit::bus::dead_letters::list(&users.world.nats.bus).await.unwrap().len(), 1);
    let metrics = users.health().get("/metrics").await.body;
    let refused = "off_messages_dead_refused_total{consumer=\"shelves-delivered\"} 1";
    assert!(metrics.as_str().unwrap().contains(refused), "{metrics}");
}

#[tokio::test]
async fn a_shelf_that_stays_low_is_announced_again() {
    // At this speed, the first reminder would be due after 0.5 s; the minimum of 1 s applies.
    let users = Users::start_with(World::new().await, Clock::real(1800.0).with_short_timeouts(10)).await;
    let ssd = users.world.add_device().await;
    users.world.publish("orders.completed", &completed_order(Uuid::now_v7(), ssd, TEA, 1)).await;
    let first = users.world.wait_for_messages("STOCK", "stock.low", 1).await.remove(0);
    // The broker loses the message before the device receives it.
    users.world.nats.bus.jetstream.get_stream_no_info("STOCK").await.unwrap().purge().await.unwrap();
    let again = users.world.wait_for_messages("STOCK", "stock.low", 1).await.remove(0);
    assert_eq!(again.payload, first.payload);
    let [first_id, again_id] = [&first, &again].map(|message| message.headers.as_ref().unwrap().get("ce-id").cloned());
    assert!(first_id.is_some() && first_id == again_id, "the id is the idempotency key of the order");
    // A clock was ahead and has been corrected.
    users.world.nats.bus.jetstream.get_stream_no_info("STOCK").await.unwrap().purge().await.unwrap();
    sqlx::query("UPDATE users.shelf_items SET remind_at = now() + interval '1 year'")
        .execute(&users.world.database.pool)
        .await
        .unwrap();
    users.world.wait_for_messages("STOCK", "stock.low", 1).await;
    users.service.stop().await;
}
