//! Events as they happen.

use crate::{Gate, SOON, config, start_gateway};
use off_events::{
    Event, Order, OrderStatus, StockConsumed,
    headers::{CE_ID, CE_TIME},
};
use off_kit::Clock;
use off_testkit::{Http, eventually};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

/// A server-sent event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sent {
    id: String,
    name: String,
    data: String,
}

/// A stream of server-sent events, and what of it was read.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn open(http: &Http, path: &str, last_id: Option<&str>) -> Self {
        let request = http.request(Method::GET, path);
        let request = match last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Self { response, text: String::new() }
    }

    /// The next event or comment.
    async fn next(&mut self) -> Sent {
        loop {
            if let Some((first, rest)) = self.text.split_once("\n\n") {
                let mut sent = Sent::default();
                for line in first.lines() {
                    match line.split_once(':') {
                        Some(("id", value)) => value.trim().clone_into(&mut sent.id),
                        Some(("event", value)) => value.trim().clone_into(&mut sent.name),
                        Some(("data", value)) => value.trim().clone_into(&mut sent.data),
                        _ => {}
                    }
                }
                let rest = rest.to_owned();
                self.text = rest;
                return sent;
            }
            let chunk = timeout(SOON, self.response.chunk()).await.unwrap().unwrap();
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    /// The next events that are no comments.
    async fn events(&mut self, count: usize) -> Vec<Sent> {
        let mut events = Vec::new();
        while events.len() < count {
            let sent = self.next().await;
            if !sent.name.is_empty() {
                events.push(sent);
            }
        }
        events
    }
}

fn order(user: i64, ssd: i64) -> Order {
    let money = |amount: i64| json!({"amount": amount, "currency": "EUR"});
    let order = json!({
        "id": Uuid::now_v7(), "ssd_id": ssd, "user_id": user, "barcode": "2000000000015",
        "timestamp": Clock::real(1.0).now(), "quantity": 2, "unit_price": money(150), "total": money(300),
        "status": "pending",
    });
    serde_json::from_value(order).unwrap()
}

async fn publish(gate: &Gate, event: &impl Event) {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(CE_ID, event.event_id().as_str());
    headers.insert(CE_TIME, Clock::real(1.0).now().to_rfc3339().as_str());
    gate.nats.publish_with_headers(event.subject(), headers, serde_json::to_vec(event).unwrap()).await;
}

fn names(events: &[Sent]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

/// Waits until the gateway has read all that was published: an event for a stream of its own arrives.
async fn settle(gate: &Gate) {
    let marker = order(999, 999);
    let mut stream = Stream::open(&gate.http().as_device(999), "/api/me/live", None).await;
    publish(gate, &marker).await;
    assert_eq!(stream.events(1).await[0].name, marker.subject());
}

#[tokio::test]
async fn a_viewer_who_lost_the_connection_misses_nothing() {
    let gate = Gate::start().await;
    let (own, other) = (order(17, 7), order(18, 8));
    let path = format!("/api/orders/{}/live", own.id);
    let person = gate.http().as_person(17);
    let mut stream = Stream::open(&person, &path, None).await;
    for order in [&own, &other] {
        publish(&gate, order).await;
    }
    publish(&gate, &own.with_status(OrderStatus::Paid)).await;
    let first = stream.events(2).await;
    assert_eq!(names(&first), [Order::PENDING, Order::PAID]);
    let body: Value = serde_json::from_str(&first[1].data).unwrap();
    assert_eq!((&body["data"]["id"], &body["subject"]), (&json!(own.id), &json!(Order::PAID)));
    assert_eq!(body["event_id"], format!("{}:paid", own.id));

    drop(stream);
    publish(&gate, &own.with_status(OrderStatus::Shipped)).await;
    publish(&gate, &other.with_status(OrderStatus::Paid)).await;
    publish(&gate, &own.with_status(OrderStatus::Completed)).await;
    settle(&gate).await;
    let mut resumed = Stream::open(&person, &path, Some(&first[1].id)).await;
    assert_eq!(names(&resumed.events(2).await), [Order::SHIPPED, Order::COMPLETED]);
    // The same from the beginning, and from another replica.
    let mut again = Stream::open(&person, &path, Some(&first[0].id)).await;
    assert_eq!(names(&again.events(3).await), [Order::PAID, Order::SHIPPED, Order::COMPLETED]);
    let replica = start_gateway(config(&gate.nats, &gate.upstream.url), Clock::real(1.0)).await;
    let elsewhere = replica.http.as_person(17);
    eventually("the replica has read the stream", || async {
        let mut stream = Stream::open(&elsewhere, &path, Some(&first[1].id)).await;
        let sent = [stream.next().await, stream.next().await];
        (sent[1].name == Order::SHIPPED).then_some(())
    })
    .await;
    replica.stop().await;
    gate.end().await;
}

#[tokio::test]
async fn a_viewer_who_comes_back_too_late_is_told_to_read_again() {
    let gate = Gate::start().await;
    let own = order(17, 7);
    publish(&gate, &own).await;
    settle(&gate).await;
    let path = format!("/api/orders/{}/live", own.id);
    gate.nats.delete_messages(off_events::streams::ORDERS.name).await;
    let created = {
        let mut stream = Stream::open(&gate.http().as_person(17), &path, None).await;
        stream.next().await.id.split('-').next().unwrap().split_once('.').unwrap().1.to_owned()
    };
    // The stream was restored from an older copy, so that it has not come as far as the viewer.
    let ahead = format!("1000000.{created}-0.0-0.0");
    for last in ["nonsense", "0-0", ahead.as_str()] {
        let mut stream = Stream::open(&gate.http().as_person(17), &path, Some(last)).await;
        let resync = stream.events(1).await.remove(0);
        assert_eq!(resync.name, "resync", "{last}");
        // From there on it is as for everybody.
        publish(&gate, &own.with_status(OrderStatus::Paid)).await;
        assert_eq!(names(&stream.events(1).await), [Order::PAID], "{last}");
        drop(stream);
        let mut stream = Stream::open(&gate.http().as_person(17), &path, Some(&resync.id)).await;
        assert_eq!(stream.events(1).await[0].name, Order::PAID);
    }
    gate.end().await;
}

#[tokio::test]
async fn everybody_gets_their_own_events_only() {
    let gate = Gate::start().await;
    let mut streams = Vec::new();
    for http in [gate.http().as_person(17), gate.http().as_device(7), gate.http().as_person(18)] {
        streams.push(Stream::open(&http, "/api/me/live", None).await);
    }
    let consumed = |ssd: i64| -> StockConsumed {
        let report = json!({"id": "1", "ssd_id": ssd, "barcode": "2000000000015", "quantity": 1, "timestamp": Clock::real(1.0).now()});
        serde_json::from_value(report).unwrap()
    };
    // The devices of people in these tests are 7: the service behind the gateway says so of everybody.
    for order in [order(17, 7), order(18, 8), order(19, 9)] {
        publish(&gate, &order).await;
    }
    for ssd in [9, 7] {
        publish(&gate, &consumed(ssd)).await;
    }
    for (stream, user) in streams.iter_mut().zip([17, 17, 18]) {
        let mut events = stream.events(2).await;
        // Two streams have no common order.
        events.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(names(&events), [Order::PENDING, StockConsumed::SUBJECT]);
        let order: Value = serde_json::from_str(&events[0].data).unwrap();
        assert_eq!(order["data"]["user_id"], user);
        let stock: Value = serde_json::from_str(&events[1].data).unwrap();
        assert_eq!(stock["data"]["ssd_id"], 7);
    }
    drop(streams);
    let anonymous = gate.http().anonymous();
    assert_eq!(anonymous.get("/api/me/live").await.status, 401);
    assert_eq!(anonymous.get(&format!("/api/orders/{}/live", Uuid::now_v7())).await.status, 401);
    assert_eq!(gate.http().get("/api/me/live").await.status, 403, "a program has no events of its own");
    assert_eq!(gate.http().get("/api/orders/nonsense/live").await.status, 404);
    gate.end().await;
}

#[tokio::test]
async fn the_state_of_the_system_names_nobody() {
    let gate = Gate::start_with(Clock::real(1.0).with_short_timeouts(10), |_| {}).await;
    let own = order(17, 7);
    publish(&gate, &own).await;
    publish(&gate, &own.with_status(OrderStatus::Paid)).await;
    let mut stream = Stream::open(&gate.http().anonymous(), "/api/live", None).await;
    assert_eq!(stream.next().await.name, "history");
    let state = loop {
        let sent = stream.next().await;
        assert_eq!(sent.name, "state");
        let state: Value = serde_json::from_str(&sent.data).unwrap();
        let has_events = state["events"].as_array().unwrap().len() == 2;
        if has_events && !state["consumers"].as_array().unwrap().is_empty() && state["dead_letters"] == 0 {
            break state;
        }
    };
    assert_eq!((&state["events"][0]["subject"], &state["events"][0]["quantity"]), (&json!(Order::PAID), &json!(2)));
    assert!(state["times"]["paid"]["orders"] == 1 && state["services"].as_array().unwrap().len() == 5, "{state}");
    let text = state.to_string();
    assert!(!text.contains(&own.id.to_string()) && !text.contains("user_id") && !text.contains("ssd_id"), "{text}");
    // Who was here before sees the past.
    drop(stream);
    let mut stream = Stream::open(&gate.http().anonymous(), "/api/live", None).await;
    let history: Value = serde_json::from_str(&stream.next().await.data).unwrap();
    let counted: i64 =
        history["seconds"].as_array().unwrap().iter().filter_map(|second| second["events"][Order::PAID].as_i64()).sum();
    assert_eq!(counted, 1, "{history}");
    drop(stream);
    gate.end().await;
}
