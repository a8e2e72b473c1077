//! Requests that wait until an order is no longer pending.

use crate::Orders;
use off_testkit::{Answer, Http, LENTILS, World};
use reqwest::Method;
use serde_json::Value;
use std::{
    pin::pin,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Long enough to show that a request waits.
const A_WHILE: Duration = Duration::from_millis(300);

/// Requests an order with this query; returns the answer.
async fn find(http: &Http, order: &Value, query: &str) -> Answer {
    http.get(&format!("/api/orders/{}{query}", order["id"].as_str().unwrap())).await
}

/// Requests an order with this `Prefer` header.
async fn find_preferring(http: &Http, order: &Value, prefer: &str) -> Answer {
    let path = format!("/api/orders/{}", order["id"].as_str().unwrap());
    http.send(http.request(Method::GET, &path).header("prefer", prefer)).await
}

/// Sends `request`, which has to wait, and begins `change` then. Returns the answer, which has to follow soon.
async fn answer_after(change: impl Future<Output = ()>, request: impl Future<Output = Answer>) -> Answer {
    let mut request = pin!(request);
    assert!(timeout(A_WHILE, &mut request).await.is_err(), "it did not wait");
    let changing = Instant::now();
    let (answer, ()) = tokio::join!(request, change);
    assert!(changing.elapsed() < Duration::from_secs(3), "it waited for {:?} more", changing.elapsed());
    answer
}

#[tokio::test]
async fn the_answer_comes_when_the_order_is_paid_or_refused() {
    let orders = Orders::start().await;
    let (paid, refused) = (orders.place(LENTILS, 1).await, orders.place(LENTILS, 1).await);
    let answer = answer_after(orders.pay(&paid), find(orders.http(), &paid, "?wait=5s")).await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &Value::from("paid")));
    assert_eq!(answer.header("preference-applied"), "");
    let answer = answer_after(orders.refuse(&refused, 99), find(orders.http(), &refused, "?wait=5s")).await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &Value::from("refused")));
    orders.end().await;
}

#[tokio::test]
async fn a_wait_that_is_over_answers_with_the_order_as_it_is() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    for (query, least) in [("?wait=500ms", 500), ("?wait=1", 1000)] {
        let started = Instant::now();
        let answer = find(orders.http(), &order, query).await;
        assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &Value::from("pending")), "{answer:?}");
        assert!(started.elapsed() >= Duration::from_millis(least), "{query} took {:?}", started.elapsed());
    }
    // Nobody waits for an order that has its outcome, or that is not theirs.
    let owner = orders.http().as_person(order["user_id"].as_i64().unwrap());
    let stranger = orders.http().as_person(order["user_id"].as_i64().unwrap() + 1);
    assert_eq!(orders.cancel(&order).await.status, 200);
    let started = Instant::now();
    assert_eq!(find(&owner, &order, "?wait=5s").await.body["status"], "cancelled");
    assert_eq!(find(&stranger, &order, "?wait=5s").await.status, 404);
    assert!(started.elapsed() < Duration::from_secs(3), "it took {:?}", started.elapsed());
    orders.end().await;
}

#[tokio::test]
async fn an_invalid_wait_is_refused() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    for query in
        ["?wait=", "?wait=0", "?wait=0s", "?wait=-1s", "?wait=5001ms", "?wait=30s", "?wait=soon", "?wait=1&wait=2"]
    {
        let answer = find(orders.http(), &order, query).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "invalid_query"), "{query}");
    }
    let answer = find(orders.http(), &order, "?wait=6s").await;
    let detail = answer.body["detail"].as_str().unwrap();
    assert_eq!(detail, "wait: a wait is a time like 5s or 500ms, or whole seconds, up to 5s");
    orders.end().await;
}

#[tokio::test]
async fn a_preferred_wait_is_honored_shortened_or_ignored() {
    let orders = Orders::start().await;
    let order = orders.place(LENTILS, 1).await;
    let started = Instant::now();
    let answer = find_preferring(orders.http(), &order, "respond-async, wait=1").await;
    assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (200, "wait=1"));
    assert!(started.elapsed() >= Duration::from_secs(1), "it took {:?}", started.elapsed());

    let answer = answer_after(orders.pay(&order), find_preferring(orders.http(), &order, "wait=60")).await;
    assert_eq!((&answer.body["status"], answer.header("preference-applied")), (&Value::from("paid"), "wait=5"));

    let pending = orders.place(LENTILS, 1).await;
    let started = Instant::now();
    for ignored in ["wait=0", "wait=soon", "respond-async"] {
        let answer = find_preferring(orders.http(), &pending, ignored).await;
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (200, ""), "{ignored}");
    }
    assert!(started.elapsed() < Duration::from_secs(1), "it took {:?}", started.elapsed());
    orders.end().await;
}

#[tokio::test]
async fn the_shutdown_ends_a_wait_with_an_answer() {
    let Orders { world, service, ssd } = Orders::start_in(World::new().await).await;
    let http = service.http.clone();
    let order = serde_json::json!({"ssd_id": ssd, "barcode": LENTILS, "quantity": 1});
    let order = http.post("/api/orders", &order).await.body;
    let answer = answer_after(service.stop(), find(&http, &order, "?wait=5s")).await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &Value::from("pending")), "{answer:?}");
    world.end().await;
}
