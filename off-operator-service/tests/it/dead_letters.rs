//! An operator looks after dead letters.

use crate::Operator;
use off_events::{
    Order, headers,
    streams::{self, BILLING_PENDING, DEAD_LETTER_DROPPED, SUPPLIER},
};
use off_testkit::{Leftover, eventually};
use serde_json::{Value, json};

const PATH: &str = "/api/operator/dead-letters";

/// Five dead letters of two consumers: numbers 1 to 5, one a second.
async fn start() -> Operator {
    let operator = Operator::start().await;
    for second in 1..=3 {
        operator.add_dead_letter(&BILLING_PENDING, Order::PENDING, "Not an order", second, "{}").await;
    }
    for second in 4..=5 {
        operator.add_dead_letter(&SUPPLIER, Order::PAID, "no such product", second, "{\"id\": 1}").await;
    }
    operator
}

fn numbers(page: &Value) -> Vec<u64> {
    let letters = page["dead_letters"].as_array().unwrap();
    letters.iter().map(|letter| letter["number"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn dead_letters_are_listed_in_pages_and_by_consumer_reason_and_time() {
    let operator = start().await;
    let list = async |query: &str| operator.http().get(&format!("{PATH}?{query}")).await.body;
    for (query, expected) in [
        ("", &[1, 2, 3, 4, 5][..]),
        ("consumer=billing-pending", &[1, 2, 3]),
        ("consumer=nobody", &[]),
        ("reason=not%20an", &[1, 2, 3]),
        ("since=2026-01-01T00:00:03Z", &[3, 4, 5]),
        ("since=2026-01-01T00:00:03Z&until=2026-01-01T00:00:05Z&reason=product", &[4]),
    ] {
        let page = list(query).await;
        assert_eq!(numbers(&page), expected, "{query}: {page}");
        assert_eq!(page["next_cursor"], Value::Null, "{query}");
    }
    let first = list("limit=2").await;
    assert_eq!((numbers(&first), &first["next_cursor"]), (vec![1, 2], &json!(3)));
    let second = list("limit=2&consumer=supplier&cursor=3").await;
    assert_eq!((numbers(&second), &second["next_cursor"]), (vec![4, 5], &json!(null)));
    assert_eq!(operator.http().get(&format!("{PATH}?limit=0")).await.status, 400);
    operator.end(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn one_is_repaired_and_replayed_and_one_is_dropped_with_a_reason() {
    let operator = start().await;
    let (http, nats) = (operator.http(), &operator.world.nats);
    let shown = http.get(&format!("{PATH}/4")).await;
    assert_eq!((&shown.body["body"], &shown.body["is_text"]), (&json!("{\"id\": 1}"), &json!(true)), "{shown:?}");
    assert_eq!(shown.header("cache-control"), "no-store");
    let replayed = http.post(&format!("{PATH}/4/replay"), &json!({"body": "{\"id\": 2}"})).await;
    assert_eq!((replayed.status.as_u16(), &replayed.body["subject"]), (200, &json!(Order::PAID)), "{replayed:?}");
    let messages = nats.wait_for_messages(streams::ORDERS.name, Order::PAID, 1).await;
    assert_eq!(messages[0].payload, "{\"id\": 2}".as_bytes());
    assert!(messages[0].headers.as_ref().unwrap().get(headers::DEAD_REASON).is_none());

    for wrong in [json!({}), json!({"why": " "}), json!({"why": "x".repeat(501)})] {
        assert_eq!(http.post(&format!("{PATH}/5/drop"), &wrong).await.status, 422, "{wrong}");
    }
    assert_eq!(http.post(&format!("{PATH}/5/drop"), &json!({"why": "a test"})).await.status, 200);
    let records = nats.wait_for_messages(streams::DEAD_LETTERS.name, DEAD_LETTER_DROPPED, 1).await;
    let record: Value = serde_json::from_slice(&records[0].payload).unwrap();
    assert_eq!((&record["number"], &record["why"]), (&json!(5), &json!("a test")));

    // The record of the drop is no dead letter.
    for number in [0, 4, 5, 6] {
        for (path, body) in [("replay", json!({})), ("drop", json!({"why": "again"}))] {
            let answer = http.post(&format!("{PATH}/{number}/{path}"), &body).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{number} {path}");
        }
    }
    assert_eq!(numbers(&http.get(PATH).await.body), [1, 2, 3]);
    operator.end(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn a_repaired_body_is_no_order_that_nobody_placed() {
    let operator = start().await;
    operator.world.add_device().await;
    let id = "01890a5d-ac97-774b-bcce-b302099a8058";
    sqlx::query(
        "INSERT INTO orders.product_orders (id, ssd_id, user_id, barcode, quantity, unit_price, placed_at, deadline)
         VALUES ($1::uuid, 1, 1, '2000000000015', 2, 299, now(), now() + interval '1 h')",
    )
    .bind(id)
    .execute(&operator.world.database.pool)
    .await
    .unwrap();
    let money = |amount: i64| json!({"amount": amount, "currency": "EUR"});
    let order = json!({
        "id": id, "ssd_id": 1, "user_id": 1, "barcode": "2000000000015", "timestamp": "2026-01-01T00:00:00Z",
        "quantity": 2, "unit_price": money(299), "total": money(598), "status": "pending",
    });
    let replay = async |change: Value| {
        let mut order = order.clone();
        order.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        operator.http().post(&format!("{PATH}/1/replay"), &json!({"body": order.to_string()})).await
    };
    for change in [
        json!({"id": "01890a5d-ac97-774b-bcce-b302099a8059"}),
        json!({"user_id": 2}),
        json!({"quantity": 3, "total": money(897)}),
        json!({"total": money(599)}),
    ] {
        let answer = replay(change.clone()).await;
        assert_eq!((answer.status.as_u16(), &answer.body["errors"][0]["field"]), (422, &json!("body")), "{change}");
    }
    assert_eq!(replay(json!({})).await.status, 200);
    operator.end(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn all_that_match_are_counted_then_replayed_at_a_limited_rate() {
    let operator = start().await;
    let http = operator.http();
    // One that has only a part of its body, and one that names a subject on which its consumer could not publish.
    let mut cut = async_nats::HeaderMap::new();
    cut.insert(headers::DEAD_SUBJECT, Order::PAID);
    cut.insert(headers::DEAD_CUT, "body");
    let mut forged = async_nats::HeaderMap::new();
    forged.insert(headers::DEAD_SUBJECT, "$JS.API.STREAM.PURGE.ORDERS");
    for headers in [cut, forged] {
        operator.world.nats.publish_with_headers(SUPPLIER.dead_subject(), headers, "{").await;
    }
    let dry = http.post("/api/operator/replays", &json!({"consumer": "supplier", "dry_run": true})).await;
    assert_eq!(
        (dry.status.as_u16(), &dry.body["matched"], &dry.body["skipped"]),
        (200, &json!(4), &json!(2)),
        "{dry:?}"
    );
    assert_eq!(http.get("/api/operator/replays/latest").await.status, 404);
    for wrong in [json!({"per_second": 0}), json!({"per_second": 1001}), json!({"since": "yesterday"})] {
        assert_eq!(http.post("/api/operator/replays", &wrong).await.status, 422, "{wrong}");
    }

    let started = http.post("/api/operator/replays", &json!({"per_second": 2})).await;
    assert_eq!(started.status, 202, "{started:?}");
    let second = http.post("/api/operator/replays", &json!({})).await;
    assert_eq!((second.status.as_u16(), second.code()), (409, "already_running"));
    let run = eventually("the replay has ended", || async {
        let run = http.get("/api/operator/replays/latest").await.body;
        run["ended_at"].is_string().then_some(run)
    })
    .await;
    assert_eq!([&run["matched"], &run["replayed"], &run["skipped"]], [&json!(7), &json!(5), &json!(2)], "{run}");
    let times =
        ["started_at", "ended_at"].map(|name| run[name].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>());
    let [began, ended] = times.map(Result::unwrap);
    assert!((ended - began).num_milliseconds() >= 2_900, "seven at two a second: {run}");
    assert_eq!(numbers(&http.get(PATH).await.body), [6, 7]);
    operator.end(&[Leftover::DeadLetters]).await;
}
