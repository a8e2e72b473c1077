//! The keys that sign tokens.

use crate::{ADA, Auth, PASSWORD, read_token, secret_file, text};
use axum::http::Method;
use chrono::TimeDelta;
use off_testkit::eventually;
use serde_json::{Value, json};

/// The key that signed the access token of a new session.
async fn current_kid(auth: &Auth) -> Value {
    read_token(&auth.log_in(ADA, PASSWORD).await.body["access_token"]).0["kid"].clone()
}

/// The ids of the published keys.
async fn published(auth: &Auth) -> Vec<Value> {
    let jwks = auth.http().get("/.well-known/jwks.json").await.body;
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect()
}

#[tokio::test]
async fn a_rotation_keeps_the_tokens_of_the_old_key_valid() {
    let auth = Auth::start().await;
    let (_, tokens) = auth.ada().await;
    let old_kid = read_token(&tokens["access_token"]).0["kid"].clone();
    let operator = auth.with_token(&auth.operator().await);
    let answer = operator.send(operator.request(Method::POST, "/api/keys")).await;
    assert_eq!((answer.status.as_u16(), &answer.body["state"]), (201, &json!("published")), "{answer:?}");
    let new_kid = answer.body["kid"].clone();

    // The new key is published at once, and signs after an hour.
    assert_eq!(published(&auth).await, [new_kid.clone(), old_kid.clone()]);
    assert_eq!(current_kid(&auth).await, old_kid);
    let states: Vec<Value> = operator.get("/api/keys").await.body["keys"].as_array().unwrap().clone();
    assert_eq!((&states[0]["state"], &states[1]["state"]), (&json!("published"), &json!("signing")));
    auth.clock.move_by(TimeDelta::minutes(59));
    let late = auth.log_in(ADA, PASSWORD).await.body;
    assert_eq!(read_token(&late["access_token"]).0["kid"], old_kid);
    auth.clock.move_by(TimeDelta::minutes(2));
    assert_eq!(current_kid(&auth).await, new_kid);
    assert_eq!(auth.status_with(&late["access_token"]).await, 200);
    let log: Vec<String> =
        sqlx::query_scalar("SELECT subject FROM auth.security_events WHERE kind = 'signing_key_created' ORDER BY id")
            .fetch_all(&auth.world.database.pool)
            .await
            .unwrap();
    assert_eq!(log, ["auth", "client:operator"]);
    auth.end().await;
}

#[tokio::test]
async fn keys_are_renewed_before_they_stop_signing() {
    let auth = Auth::start().await;
    auth.ada().await;
    let first = current_kid(&auth).await;
    auth.clock.move_by(TimeDelta::days(30) - TimeDelta::minutes(119));
    let next = eventually("the next key is published", || async {
        published(&auth).await.into_iter().find(|kid| *kid != first)
    })
    .await;
    assert_eq!(current_kid(&auth).await, first);
    auth.clock.move_by(TimeDelta::minutes(61));
    assert_eq!(current_kid(&auth).await, next);
    // The first key still verifies for an hour after it stopped signing.
    auth.clock.move_by(TimeDelta::minutes(90));
    assert!(published(&auth).await.contains(&first));
    auth.clock.move_by(TimeDelta::minutes(60));
    assert_eq!(published(&auth).await, [next]);
    auth.end().await;
}

#[tokio::test]
async fn a_retired_key_verifies_no_more_and_another_one_signs() {
    let auth = Auth::start().await;
    let (_, tokens) = auth.ada().await;
    let operator = auth.operator().await;
    let http = auth.with_token(&operator);
    let leaked = current_kid(&auth).await;
    assert_eq!(http.delete("/api/keys/unknown").await.status, 404);
    assert_eq!(http.delete(&format!("/api/keys/{}", text(&leaked))).await.status, 204);
    assert_eq!(auth.status_with(&tokens["access_token"]).await, 401);
    assert_eq!(http.get("/api/keys").await.status, 401);
    assert_ne!(current_kid(&auth).await, leaked);
    // The sessions live on.
    let refreshed = auth.refresh(&tokens).await;
    assert_eq!(auth.status_with(&refreshed.body["access_token"]).await, 200);
    auth.end().await;
}

#[tokio::test]
async fn a_key_that_waits_signs_when_the_one_before_it_is_retired() {
    let auth = Auth::start().await;
    auth.ada().await;
    let secret = auth.add_client("operator", &["operate"]).await;
    let operator = async || {
        let answer = auth.client_token("operator", &secret, "").await;
        auth.with_token(&text(&answer.body["access_token"]))
    };
    let http = operator().await;
    let waiting = http.post("/api/keys", &json!({"signs_after_seconds": 86_400})).await.body["kid"].clone();
    // Verifiers may not know it yet, so a new one signs.
    let leaked = current_kid(&auth).await;
    assert_eq!(http.delete(&format!("/api/keys/{}", text(&leaked))).await.status, 204);
    let new = current_kid(&auth).await;
    assert!(new != leaked && new != waiting);
    assert_eq!(published(&auth).await, [new.clone(), waiting.clone()]);

    auth.clock.move_by(TimeDelta::minutes(11));
    assert_eq!(operator().await.delete(&format!("/api/keys/{}", text(&new))).await.status, 204);
    assert_eq!(current_kid(&auth).await, waiting);
    assert_eq!(published(&auth).await, std::slice::from_ref(&waiting));
    let keys = operator().await.get("/api/keys").await.body;
    assert_eq!((&keys["keys"][0]["kid"], &keys["keys"][0]["state"]), (&waiting, &json!("signing")));
    let log = auth.security_log().await;
    let by_operator = |kind: &str| (kind.to_owned(), "client:operator".to_owned());
    assert!(log.contains(&by_operator("signing_key_started")), "{log:?}");
    auth.end().await;
}

#[tokio::test]
async fn only_operators_change_keys() {
    let auth = Auth::start().await;
    let (_, tokens) = auth.ada().await;
    let person = auth.with_token(&text(&tokens["access_token"]));
    for (http, status) in [(auth.http(), 401), (person, 403)] {
        assert_eq!(http.get("/api/keys").await.status, status);
        assert_eq!(http.post("/api/keys", &json!({})).await.status, status);
        assert_eq!(http.delete("/api/keys/x").await.status, status);
    }
    let operator = auth.with_token(&auth.operator().await);
    for delay in [-1, 604_801] {
        let answer = operator.post("/api/keys", &json!({"signs_after_seconds": delay})).await;
        assert_eq!((answer.status.as_u16(), answer.wrong_fields()), (422, vec!["signs_after_seconds"]));
    }
    for _ in 0..7 {
        assert_eq!(operator.post("/api/keys", &json!({})).await.status, 201);
    }
    let answer = operator.post("/api/keys", &json!({})).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (409, "too_many_keys"));
    auth.end().await;
}

#[tokio::test]
async fn replicas_share_keys_and_sessions() {
    let auth = Auth::start().await;
    let (_, tokens) = auth.ada().await;
    let replica = auth.start_replica(&auth.secret).await;
    let other = replica.http.with_token(text(&tokens["access_token"]));
    assert_eq!(other.get("/api/sessions").await.status, 200);
    let body = json!({"refresh_token": tokens["refresh_token"]});
    let refreshed = replica.http.anonymous().post("/api/refresh", &body).await.body;
    assert_eq!(auth.status_with(&refreshed["access_token"]).await, 200);
    assert_eq!(auth.refresh(&refreshed).await.status, 200);
    assert_eq!(published(&auth).await.len(), 1);

    // The other replica learns a key without a restart.
    let operator = auth.with_token(&auth.operator().await);
    let new = operator.post("/api/keys", &json!({"signs_after_seconds": 0})).await.body["kid"].clone();
    assert_eq!(current_kid(&auth).await, new);
    eventually("the replica signs with the new key", || async {
        let login = json!({"email": ADA, "password": PASSWORD});
        let tokens = replica.http.anonymous().post("/api/login", &login).await.body;
        (read_token(&tokens["access_token"]).0["kid"] == new).then_some(())
    })
    .await;
    auth.world.end_after(vec![auth.service, replica], &[]).await;
}

#[tokio::test]
async fn another_master_secret_signs_everybody_out_and_the_service_goes_on() {
    let auth = Auth::start().await;
    let (_, tokens) = auth.ada().await;
    let old = current_kid(&auth).await;
    let other_secret = secret_file("another master secret, which is long enough");
    let replica = auth.start_replica(&other_secret).await;
    let http = replica.http.anonymous();
    // Access tokens are verified with the public half, until they expire.
    assert_eq!(replica.http.with_token(text(&tokens["access_token"])).get("/api/sessions").await.status, 200);
    let refreshed = http.post("/api/refresh", &json!({"refresh_token": tokens["refresh_token"]})).await;
    assert_eq!(refreshed.status, 401);
    let login = http.post("/api/login", &json!({"email": ADA, "password": PASSWORD})).await;
    assert_eq!(login.status, 200, "{login:?}");
    assert_ne!(read_token(&login.body["access_token"]).0["kid"], old);
    auth.world.end_after(vec![auth.service, replica], &[]).await;
}
