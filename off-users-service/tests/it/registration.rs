//! Registration of people and their devices.

use crate::{Users, ada};
use futures::StreamExt;
use off_events::{ORDERS_NEW, ORDERS_RANDOM, UserRegistered, headers::REQUEST_ID, streams};
use serde_json::json;
use std::collections::HashMap;

#[tokio::test]
async fn a_person_registers_and_is_announced() {
    let users = Users::start().await;
    let answer =
        users.http().post("/api/register", &ada("Ada@Example.org", &["02:00:00:00:00:01", "02-00-00-00-00-02"])).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let id = answer.body["user_id"].as_i64().unwrap();
    let ssds: Vec<i64> =
        answer.body["devices"].as_array().unwrap().iter().map(|device| device["ssd_id"].as_i64().unwrap()).collect();
    assert_eq!(answer.body["devices"][1]["mac_address"], "02:00:00:00:00:02");
    assert_eq!(answer.header("location"), format!("/api/users/{id}"));

    let person = users.http().get(&format!("/api/users/{id}")).await;
    assert_eq!((&person.body["email"], &person.body["ssd_ids"]), (&json!("ada@example.org"), &json!(ssds)));
    assert!(!person.body.to_string().contains("password") && !person.body.to_string().contains("argon2"));
    let device = users.http().get(&format!("/api/devices/{}", ssds[0])).await;
    assert_eq!((&device.body["mac_address"], &device.body["shelf"]), (&json!("02:00:00:00:00:01"), &json!([])));

    let announced = users.world.nats.wait_for_messages(streams::USERS.name, UserRegistered::SUBJECT, 1).await;
    let body: serde_json::Value = serde_json::from_slice(&announced[0].payload).unwrap();
    assert_eq!((&body["id"], &body["ssd_ids"]), (&json!(id), &json!(ssds)));
    assert!(!body.to_string().contains("example.org"), "the event must not contain the e-mail address");
    users.end().await;
}

#[tokio::test]
async fn a_conflict_registers_neither_the_person_nor_any_device() {
    let users = Users::start().await;
    users.register(&["02:00:00:00:00:01"]).await;
    let same_mail = users.http().post("/api/register", &ada("ADA@example.org", &["02:00:00:00:00:02"])).await;
    assert_eq!((same_mail.status.as_u16(), same_mail.code()), (409, "email_taken"));
    let devices = ["02:00:00:00:00:03", "02:00:00:00:00:01"];
    let same_device = users.http().post("/api/register", &ada("bob@example.org", &devices)).await;
    assert_eq!((same_device.status.as_u16(), same_device.code()), (409, "mac_address_taken"));
    let all = users.http().get("/api/devices").await;
    assert_eq!(all.body["devices"].as_array().unwrap().len(), 1);
    users.end().await;
}

#[tokio::test]
async fn of_concurrent_registrations_of_one_address_one_succeeds() {
    let users = Users::start().await;
    let registrations = (0..8).map(|number| {
        let (http, address) = (users.http().clone(), format!("02:00:00:00:00:{number:02x}"));
        async move { http.post("/api/register", &ada("ada@example.org", &[&address])).await.status.as_u16() }
    });
    let mut statuses = futures::future::join_all(registrations).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(users.http().get("/api/devices").await.body["devices"].as_array().unwrap().len(), 1);
    users.end().await;
}

#[tokio::test]
async fn devices_are_listed_in_pages() {
    let users = Users::start().await;
    let addresses: Vec<String> = (1..=5).map(|number| format!("02:00:00:00:00:0{number}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    users.register(&addresses).await;
    let mut seen = Vec::new();
    let mut path = "/api/devices?limit=2".to_owned();
    loop {
        let page = users.http().get(&path).await;
        seen.extend(page.body["devices"].as_array().unwrap().iter().map(|device| device["mac_address"].clone()));
        let Some(cursor) = page.body["next_cursor"].as_i64() else { break };
        path = format!("/api/devices?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, addresses);
    users.end().await;
}

#[tokio::test]
async fn a_random_device_is_uniformly_distributed_despite_gaps_in_the_ids() {
    let users = Users::start().await;
    let client = &users.world.nats.bus.client;
    let mut answers = client.subscribe(ORDERS_NEW).await.unwrap();
    client.publish(ORDERS_RANDOM, "".into()).await.unwrap();
    let none: serde_json::Value = serde_json::from_slice(&answers.next().await.unwrap().payload).unwrap();
    assert_eq!(none, json!({"ssd_id": null}));

    for _ in 0..4 {
        users.world.add_device().await;
    }
    sqlx::query("SELECT setval('users.devices_id_seq', 40)").execute(&users.world.database.pool).await.unwrap();
    users.world.add_device().await;
    let mut drawn: HashMap<i64, u32> = HashMap::new();
    for _ in 0..500 {
        client.publish(ORDERS_RANDOM, "".into()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answers.next().await.unwrap().payload).unwrap();
        *drawn.entry(answer["ssd_id"].as_i64().unwrap()).or_default() += 1;
    }
    // Each of 5 is expected 100 times; 55 is five standard deviations below.
    assert!(drawn.len() == 5 && drawn.values().all(|&times| times > 55), "{drawn:?}");
    users.end().await;
}

#[tokio::test]
async fn a_request_that_names_a_device_or_is_unreadable_gets_no_response() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    let client = &users.world.nats.bus.client;
    let mut answers = client.subscribe(ORDERS_NEW).await.unwrap();
    for (id, question) in [("named", r#"{"ssd_id": 7}"#), ("poison", "poison"), ("any", "{}")] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(REQUEST_ID, id);
        client.publish_with_headers(ORDERS_RANDOM, headers, question.into()).await.unwrap();
    }
    let answer = answers.next().await.unwrap();
    assert_eq!(answer.headers.unwrap().get(REQUEST_ID).unwrap().as_str(), "any");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&answer.payload).unwrap(), json!({"ssd_id": ssd}));
    users.end().await;
}

#[tokio::test]
async fn a_request_with_a_reply_subject_gets_its_response_there_too() {
    let users = Users::start().await;
    let ssd = users.world.add_device().await;
    let answer = users.world.nats.bus.client.request(ORDERS_RANDOM, "".into()).await.unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&answer.payload).unwrap(), json!({"ssd_id": ssd}));
    users.end().await;
}
