//! What people get when they register: keys of their devices, and a session.

use crate::{
    Users, ada,
    auth_stand_in::{AuthStandIn, Behavior, tokens},
};
use off_kit::{Clock, auth::OpaqueKey};
use off_testkit::World;
use reqwest::Method;
use serde_json::json;
use std::collections::HashSet;

#[tokio::test]
async fn a_new_person_is_signed_in_and_gets_a_key_for_each_device() {
    let auth = AuthStandIn::start(Behavior::SignsIn).await;
    let users = Users::start_beside(World::new().await, Clock::real(1.0), auth.url.clone()).await;
    let http = users.http().anonymous();
    let request = http.request(Method::POST, "/api/register").header("user-agent", "a browser");
    let request = request.header("x-forwarded-for", "192.0.2.7");
    let body = ada("Ada@example.org", &["02:00:00:00:00:01", "02:00:00:00:00:02"]);
    let answer = http.send(request.json(&body)).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (201, "no-store"), "{answer:?}");
    assert_eq!(answer.body["session"], tokens());

    let seen = auth.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, json!({"email": "ada@example.org", "password": "correct horse battery"}));
    assert_eq!((seen[0].header("user-agent"), seen[0].header("x-forwarded-for")), ("a browser", "192.0.2.7"));

    // The database has the digests of the keys, and nothing from which a key can be read.
    let rows: Vec<(i64, uuid::Uuid, Vec<u8>, String)> =
        sqlx::query_as("SELECT ssd_id, id, sha256, created_by FROM auth.device_keys ORDER BY ssd_id")
            .fetch_all(&users.world.database.pool)
            .await
            .unwrap();
    let devices = answer.body["devices"].as_array().unwrap();
    assert_eq!(rows.len(), devices.len());
    let mut secrets = HashSet::new();
    for ((ssd_id, id, sha256, created_by), device) in rows.into_iter().zip(devices) {
        let key = device["key"].as_str().unwrap();
        let (key_id, digest) = OpaqueKey::parse(OpaqueKey::DEVICE, key).unwrap();
        assert_eq!((json!(ssd_id), id, sha256), (device["ssd_id"].clone(), key_id, digest.to_vec()));
        assert_eq!(created_by, format!("user:{}", answer.body["user_id"]));
        secrets.insert(key[key.len() - 43..].to_owned());
    }
    assert_eq!(secrets.len(), 2);
    let dump = users.dump().await;
    for secret in secrets.iter().map(String::as_str).chain(["an-access-token", "a-refresh-token", "correct horse"]) {
        assert!(!dump.contains(secret), "{secret} is in the database");
    }

    let events = users.security_events().await;
    assert_eq!(events.len(), 2);
    for (kind, subject, address, detail) in events {
        assert_eq!((&*kind, &*address), ("device_key_created", "192.0.2.7"));
        assert_eq!(subject, format!("user:{}", answer.body["user_id"]));
        assert!(detail.contains(" of device ") && !detail.contains("offd_"), "{detail}");
    }

    // A refused registration leaves no key behind, and is no reason to sign in.
    let bob = ada("bob@example.org", &["02:00:00:00:00:03", "02:00:00:00:00:01"]);
    assert_eq!(http.post("/api/register", &bob).await.code(), "mac_address_taken");
    assert_eq!((users.count("auth.device_keys").await, auth.seen().len()), (2, 1));
    users.end().await;
}

#[tokio::test]
async fn without_an_answer_of_the_auth_service_a_person_is_registered_all_the_same() {
    for behavior in [Behavior::Refuses, Behavior::SendsNoTokens, Behavior::Hangs] {
        let auth = AuthStandIn::start(behavior).await;
        let clock = Clock::real(1.0).with_short_timeouts(10);
        let users = Users::start_beside(World::new().await, clock, auth.url.clone()).await;
        let person = users.register_person("ada@example.org", &["02:00:00:00:00:01"]).await;
        assert!(person.answer.body.get("session").is_none(), "{behavior:?}");
        assert!(person.answer.body["devices"][0]["key"].is_string(), "{behavior:?}");
        assert_eq!(auth.seen().len(), 1, "{behavior:?}");
        users.end().await;
    }
    let users = Users::start().await;
    let person = users.register_person("ada@example.org", &["02:00:00:00:00:01"]).await;
    assert!(person.answer.body.get("session").is_none());
    users.end().await;
}

#[tokio::test]
async fn simulated_people_get_neither_keys_nor_tokens() {
    let auth = AuthStandIn::start(Behavior::SignsIn).await;
    let users = Users::start_beside(World::new().await, Clock::real(1.0), auth.url.clone()).await;
    let answer = users.register(&["02:00:00:00:00:01"]).await;
    assert_eq!(answer.status, 201);
    assert!(answer.body.get("session").is_none() && answer.body["devices"][0].get("key").is_none(), "{answer:?}");
    assert_eq!((users.count("auth.device_keys").await, auth.seen().len()), (0, 0));
    users.end().await;
}
