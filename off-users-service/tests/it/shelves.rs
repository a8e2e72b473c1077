//! What the service makes of what it hears of shelves.

use crate::Users;
use off_events::streams;
use off_testkit::{LENTILS, TEA, World};
use serde_json::{Value, json};
use uuid::Uuid;

fn arrived(order: Uuid, ssd: i64, barcode: &str, quantity: i64) -> Value {
    json!({"id": order, "ssd_id": ssd, "product_id": barcode, "timestamp": "2026-01-01T00:00:00Z",
        "quantity": quantity, "status": "completed"})
}

fn eaten(id: &str, ssd: i64, barcode: &str, quantity: i64) -> Value {
    json!({"id": id, "ssd_id": ssd, "barcode": barcode, "timestamp": "2026-01-01T00:00:00Z", "quantity": quantity})
}

#[tokio::test]
async fn a_delivery_is_put_on_the_shelf_once() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    let order = Uuid::now_v7();
    for _ in 0..3 {
        users.world.say("orders.completed", &arrived(order, ssd, LENTILS, 5)).await;
    }
    users.world.say("orders.completed", &arrived(Uuid::now_v7(), ssd, LENTILS, 2)).await;
    users.shelf_holds(ssd, LENTILS, 7).await;
    users.world.caught_up(&streams::SHELVES_DELIVERED).await;
    users.shelf_holds(ssd, LENTILS, 7).await;
    let device = users.http().get(&format!("/api/devices/{ssd}")).await;
    let shelf = json!([{"barcode": LENTILS, "name": "Red lentils", "quantity": 7, "reorder_point": 2}]);
    assert_eq!(device.body["shelf"], shelf);
    users.service.stop().await;
}

#[tokio::test]
async fn what_is_eaten_is_taken_once_and_never_below_zero() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.world.say("orders.completed", &arrived(Uuid::now_v7(), ssd, LENTILS, 10)).await;
    users.shelf_holds(ssd, LENTILS, 10).await;
    for _ in 0..3 {
        users.world.say("stock.consumed", &eaten("breakfast", ssd, LENTILS, 4)).await;
    }
    users.shelf_holds(ssd, LENTILS, 6).await;
    users.world.say("stock.consumed", &eaten("feast", ssd, LENTILS, 100)).await;
    users.shelf_holds(ssd, LENTILS, 0).await;
    users.world.say("stock.consumed", &eaten("crumbs", ssd, LENTILS, 1)).await;
    users.world.caught_up(&streams::SHELVES_CONSUMED).await;
    users.shelf_holds(ssd, LENTILS, 0).await;
    assert!(off_kit::bus::dead::list(&users.world.nats.bus).await.unwrap().is_empty(), "a repetition is no poison");
}

#[tokio::test]
async fn low_is_said_once_until_restocked() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.world.say("orders.completed", &arrived(Uuid::now_v7(), ssd, TEA, 5)).await;
    users.shelf_holds(ssd, TEA, 5).await;
    for cup in 0..4 {
        users.world.say("stock.consumed", &eaten(&format!("cup {cup}"), ssd, TEA, 1)).await;
    }
    users.shelf_holds(ssd, TEA, 1).await;
    let low = users.world.hear("STOCK", "stock.low", 1).await;
    let first: Value = serde_json::from_slice(&low[0].payload).unwrap();
    assert_eq!((&first["ssd_id"], &first["barcode"], &first["quantity"]), (&json!(ssd), &json!(TEA), &json!(2)));

    users.world.say("orders.completed", &arrived(Uuid::now_v7(), ssd, TEA, 5)).await;
    users.shelf_holds(ssd, TEA, 6).await;
    assert_eq!(users.world.heard("STOCK", "stock.low").await.len(), 1);
    users.world.say("stock.consumed", &eaten("party", ssd, TEA, 5)).await;
    let low = users.world.hear("STOCK", "stock.low", 2).await;
    assert_eq!(serde_json::from_slice::<Value>(&low[1].payload).unwrap()["quantity"], 1);
}

#[tokio::test]
async fn poison_goes_to_the_dead_letters_and_holds_up_nothing() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    users.world.say_bytes("orders.completed", b"\xff".to_vec()).await;
    users.world.say("orders.completed", &arrived(Uuid::now_v7(), 999, LENTILS, 1)).await;
    users.world.say("orders.completed", &arrived(Uuid::now_v7(), ssd, "4242424242424", 1)).await;
    users.world.say("stock.consumed", &eaten("none", ssd, LENTILS, 0)).await;
    users.world.say("stock.consumed", &eaten("", ssd, LENTILS, 1)).await;
    users.world.say("stock.consumed", &eaten("nul\u{0}", ssd, LENTILS, 1)).await;
    users.world.say("stock.consumed", &eaten(&"x".repeat(101), ssd, LENTILS, 1)).await;
    users.world.say("stock.consumed", &eaten("stranger", 999, LENTILS, 1)).await;
    users.world.say("orders.completed", &arrived(Uuid::now_v7(), ssd, LENTILS, 5)).await;
    users.shelf_holds(ssd, LENTILS, 5).await;
    users.world.say("stock.consumed", &eaten("good", ssd, LENTILS, 1)).await;
    users.shelf_holds(ssd, LENTILS, 4).await;
    let letters = users.world.bury(8).await;
    let count = |reason: &str| letters.iter().filter(|letter| letter.reason.contains(reason)).count();
    assert_eq!(count("there is no such device"), 2, "{letters:#?}");
    assert_eq!(count("the catalogue has no such product"), 1, "{letters:#?}");
    assert_eq!(count("the id of a report is"), 3, "{letters:#?}");
    assert_eq!(count("not readable"), 2, "{letters:#?}");
}

#[tokio::test]
async fn when_the_dead_letters_are_full_poison_waits_and_all_else_goes_on() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    let jetstream = &users.world.nats.bus.jetstream;
    let mut config = jetstream.get_stream("DEAD_LETTERS").await.unwrap().cached_info().config.clone();
    config.max_messages = 1;
    jetstream.update_stream(&config).await.unwrap();
    users.world.say_bytes("stock.consumed", b"one".to_vec()).await;
    users.world.bury(1).await;
    users.world.say_bytes("stock.consumed", b"two".to_vec()).await;
    users.world.say("orders.completed", &arrived(Uuid::now_v7(), ssd, LENTILS, 5)).await;
    users.shelf_holds(ssd, LENTILS, 5).await;
    users.world.say("stock.consumed", &eaten("good", ssd, LENTILS, 1)).await;
    users.shelf_holds(ssd, LENTILS, 4).await;
    // It is neither among the dead letters nor handled: the consumer still owes an answer for it.
    let waiting = users.world.nats.bus.waiting(&streams::SHELVES_CONSUMED).await.unwrap();
    assert_eq!((waiting.pending, waiting.in_hand), (0, 1));
    assert_eq!(off_kit::bus::dead::list(&users.world.nats.bus).await.unwrap().len(), 1);

    // Someone makes room.
    jetstream.get_stream("DEAD_LETTERS").await.unwrap().delete_message(1).await.unwrap();
    let letters = users.world.bury(1).await;
    assert_eq!(
        (&letters[0].body[..], &*letters[0].reason),
        (&b"two"[..], "not readable: expected ident at line 1 column 2")
    );
    users.world.caught_up(&streams::SHELVES_CONSUMED).await;
}

#[tokio::test]
async fn a_shelf_that_stays_low_is_spoken_of_again() {
    // At this speed a quarter of an hour is the ten seconds between two looks.
    let users = Users::start_at_speed(World::new().await, 900.0).await;
    let ssd = users.world.add_device().await;
    users.world.say("orders.completed", &arrived(Uuid::now_v7(), ssd, TEA, 1)).await;
    let first = users.world.hear("STOCK", "stock.low", 1).await.remove(0);
    // The broker loses it before the device has heard of it.
    users.world.nats.bus.jetstream.get_stream_no_info("STOCK").await.unwrap().purge().await.unwrap();
    let again = users.world.hear("STOCK", "stock.low", 1).await.remove(0);
    assert_eq!(again.payload, first.payload);
    let [first_id, again_id] = [&first, &again].map(|message| message.headers.as_ref().unwrap().get("ce-id").cloned());
    assert!(first_id.is_some() && first_id == again_id, "an order keyed by it is placed once");
    users.service.stop().await;
}
