//! Deliveries, consumption and `stock.low`.

use crate::{Users, consumption};
use off_events::{Order, StockConsumed, streams};
use off_kit::{Clock, bus::dead_letters};
use off_testkit::{LENTILS, Leftover, TEA, World};
use serde_json::{Value, json};

#[tokio::test]
async fn a_repeated_delivery_is_added_to_the_shelf_once() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    let order = users.deliver(ssd, LENTILS, 5).await;
    for _ in 0..2 {
        users.complete(&order).await;
    }
    users.deliver(ssd, LENTILS, 2).await;
    users.assert_shelf_holds(ssd, LENTILS, 7).await;
    users.wait_until_caught_up().await;
    users.assert_shelf_holds(ssd, LENTILS, 7).await;
    let device = users.http().get(&format!("/api/devices/{ssd}")).await;
    let shelf =
        json!([{"barcode": LENTILS, "name": "Red lentils", "quantity": 7, "reorder_point": 2, "is_paused": false}]);
    assert_eq!(device.body["shelf"], shelf);
    users.end().await;
}

#[tokio::test]
async fn a_repeated_consumption_counts_once_and_never_below_zero() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.deliver(ssd, LENTILS, 10).await;
    users.assert_shelf_holds(ssd, LENTILS, 10).await;
    for _ in 0..3 {
        users.consume("breakfast", ssd, LENTILS, 4).await;
    }
    users.assert_shelf_holds(ssd, LENTILS, 6).await;
    users.consume("feast", ssd, LENTILS, 100).await;
    users.assert_shelf_holds(ssd, LENTILS, 0).await;
    users.consume("crumbs", ssd, LENTILS, 1).await;
    users.wait_until_caught_up().await;
    users.assert_shelf_holds(ssd, LENTILS, 0).await;
    users.end().await;
}

#[tokio::test]
async fn an_invalid_traceparent_of_a_device_is_not_propagated() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.deliver(ssd, TEA, 5).await;
    users.assert_shelf_holds(ssd, TEA, 5).await;
    let mut headers = async_nats::HeaderMap::new();
    // If it were propagated, the outbound message would be larger than the broker accepts.
    headers.insert("traceparent", "a".repeat(65_000).as_str());
    let report = consumption("junk", ssd, TEA, 5).to_string();
    users.world.nats.publish_with_headers(StockConsumed::SUBJECT, headers, report).await;
    let low = users.wait_for_low(1).await;
    assert!(low[0].headers.as_ref().unwrap().get("traceparent").is_none());
    users.end().await;
}

#[tokio::test]
async fn stock_low_is_published_once_until_restocked() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.deliver(ssd, TEA, 5).await;
    users.assert_shelf_holds(ssd, TEA, 5).await;
    for cup in 0..4 {
        users.consume(&format!("cup {cup}"), ssd, TEA, 1).await;
    }
    users.assert_shelf_holds(ssd, TEA, 1).await;
    let low = users.wait_for_low(1).await;
    let first: Value = serde_json::from_slice(&low[0].payload).unwrap();
    assert_eq!((&first["ssd_id"], &first["barcode"], &first["quantity"]), (&json!(ssd), &json!(TEA), &json!(2)));

    users.deliver(ssd, TEA, 5).await;
    users.assert_shelf_holds(ssd, TEA, 6).await;
    assert_eq!(users.wait_for_low(1).await.len(), 1);
    users.consume("party", ssd, TEA, 5).await;
    let low = users.wait_for_low(2).await;
    assert_eq!(serde_json::from_slice::<Value>(&low[1].payload).unwrap()["quantity"], 1);
    users.end().await;
}

#[tokio::test]
async fn invalid_messages_become_dead_letters_and_block_nothing() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.world.nats.publish_bytes(Order::COMPLETED, &b"\xff"[..]).await;
    users.deliver(999, LENTILS, 1).await;
    users.deliver(ssd, "4242424242424", 1).await;
    users.deliver(ssd, LENTILS, 5).await;
    users.assert_shelf_holds(ssd, LENTILS, 5).await;
    let letters = users.world.nats.wait_for_dead_letters(3).await;
    let count = |reason: &str| letters.iter().filter(|letter| letter.reason.contains(reason)).count();
    assert_eq!(count("there is no such device"), 1, "{letters:#?}");
    assert_eq!(count("the catalog has no such product"), 1, "{letters:#?}");
    assert_eq!(count("not readable"), 1, "{letters:#?}");
    users.end_leaving(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn invalid_messages_of_devices_are_counted_and_dropped() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.deliver(ssd, LENTILS, 5).await;
    users.assert_shelf_holds(ssd, LENTILS, 5).await;
    users.consume("none", ssd, LENTILS, 0).await;
    users.consume("", ssd, LENTILS, 1).await;
    users.consume("nul\u{0}", ssd, LENTILS, 1).await;
    users.consume(&"x".repeat(101), ssd, LENTILS, 1).await;
    users.consume("stranger", 999, LENTILS, 1).await;
    users.world.nats.publish_bytes(StockConsumed::SUBJECT, vec![b'.'; 900_000]).await;
    // Larger headers than a dead letter can have.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Junk", "x".repeat(65_300).as_str());
    users.world.nats.publish_with_headers(StockConsumed::SUBJECT, headers, "junk").await;
    users.consume("good", ssd, LENTILS, 1).await;
    users.assert_shelf_holds(ssd, LENTILS, 4).await;
    users.wait_until_caught_up().await;
    let metrics = users.health().get("/metrics").await.body;
    let dropped = "off_messages_dropped_total{consumer=\"shelves-consumed\"} 7";
    assert!(metrics.as_str().unwrap().contains(dropped), "{metrics}");
    users.end().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_for_a_dead_letter_is_truncated() {
    let users = Users::start().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("A-Name", "kept");
    headers.insert("Junk", "x".repeat(60_000).as_str());
    users.world.nats.publish_with_headers(Order::COMPLETED, headers, vec![b'.'; 900_000]).await;
    let letter = users.world.nats.wait_for_dead_letters(1).await.remove(0);
    assert_eq!((letter.cut.join(" "), letter.body.len()), ("headers body".to_owned(), 64 * 1024));
    assert_eq!(letter.headers, [("A-Name".to_owned(), "kept".to_owned())]);
    let refused = dead_letters::replay(&users.world.nats.bus, letter.number, None).await.unwrap_err();
    assert!(refused.to_string().contains("too large to be kept whole"), "{refused}");
    users.end_leaving(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn a_full_dead_letter_stream_blocks_nothing() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    let jetstream = &users.world.nats.bus.jetstream;
    let mut config = jetstream.get_stream(streams::DEAD_LETTERS.name).await.unwrap().cached_info().config.clone();
    config.max_messages = 1;
    jetstream.update_stream(&config).await.unwrap();
    users.world.nats.publish_bytes(Order::COMPLETED, "one").await;
    users.world.nats.wait_for_dead_letters(1).await;
    users.world.nats.publish_bytes(Order::COMPLETED, "two").await;
    users.deliver(ssd, LENTILS, 5).await;
    users.assert_shelf_holds(ssd, LENTILS, 5).await;
    users.wait_until_caught_up().await;
    assert_eq!(users.world.nats.dead_letters().await.len(), 1);
    let metrics = users.health().get("/metrics").await.body;
    let refused = "off_messages_dead_refused_total{consumer=\"shelves-delivered\"} 1";
    assert!(metrics.as_str().unwrap().contains(refused), "{metrics}");
    users.end_leaving(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn a_shelf_that_stays_low_is_announced_again() {
    // At this speed, the first reminder would be due after 0.5 s; the minimum of 1 s applies.
    let users = Users::start_with(World::new().await, Clock::real(1800.0).with_short_timeouts(10)).await;
    let ssd = users.world.add_device().await;
    users.deliver(ssd, TEA, 1).await;
    let first = users.wait_for_low(1).await.remove(0);
    // The broker loses the message before the device receives it.
    users.world.nats.delete_messages(streams::STOCK.name).await;
    let again = users.wait_for_low(1).await.remove(0);
    assert_eq!(again.payload, first.payload);
    let [first_id, again_id] = [&first, &again].map(|message| message.headers.as_ref().unwrap().get("ce-id").cloned());
    assert!(first_id.is_some() && first_id == again_id, "the id is the idempotency key of the order");
    // A clock was ahead and has been corrected.
    users.world.nats.delete_messages(streams::STOCK.name).await;
    sqlx::query("UPDATE users.shelf_items SET remind_at = now() + interval '1 year'")
        .execute(&users.world.database.pool)
        .await
        .unwrap();
    users.wait_for_low(1).await;
    users.end().await;
}
