//! People change their password.

use crate::{ADA, Auth, PASSWORD, sid_of, text};
use axum::http::Method;
use chrono::TimeDelta;
use off_testkit::{Answer, Http};
use serde_json::json;
use std::time::Duration;

const NEW: &str = "wrong donkey battery";

async fn change(http: &Http, old: &str, new: &str) -> Answer {
    http.put("/api/password", &json!({"old_password": old, "new_password": new})).await
}

#[tokio::test]
async fn a_changed_password_ends_all_other_sessions() {
    let auth = Auth::start().await;
    let (id, own) = auth.ada().await;
    let (one, another) = (auth.log_in(ADA, PASSWORD).await.body, auth.log_in(ADA, PASSWORD).await.body);
    let http = auth.with_token(&text(&own["access_token"]));
    let answer = change(&http, PASSWORD, NEW).await;
    assert_eq!(answer.status, 204, "{answer:?}");

    for ended in [&one, &another] {
        auth.wait_until_refused(&ended["access_token"]).await;
        assert_eq!(auth.refresh(ended).await.status, 401);
    }
    auth.assert_revoked(&[sid_of(&one["access_token"]), sid_of(&another["access_token"])]).await;
    assert_eq!(auth.refresh(&own).await.status, 200);
    assert_eq!(http.get("/api/sessions").await.body["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(auth.log_in(ADA, PASSWORD).await.status, 401);
    assert_eq!(auth.log_in(ADA, NEW).await.status, 200);
    assert!(auth.security_log().await.contains(&("password_changed".to_owned(), format!("user:{id}"))));
    auth.end().await;
}

#[tokio::test]
async fn an_unsuitable_new_password_is_refused() {
    let auth = Auth::start().await;
    let (_, own) = auth.ada().await;
    let http = auth.with_token(&text(&own["access_token"]));
    for new in ["short", "Password1", "12345678", &"x".repeat(201)] {
        let answer = change(&http, PASSWORD, new).await;
        assert_eq!((answer.status.as_u16(), answer.wrong_fields()), (422, vec!["new_password"]), "{new}");
    }
    let missing = http.put("/api/password", &json!({})).await;
    assert_eq!(missing.wrong_fields(), ["old_password", "new_password"]);
    assert_eq!(auth.http().put("/api/password", &json!({})).await.status, 401);
    auth.end().await;
}

#[tokio::test]
async fn guesses_of_the_old_password_count_against_the_limit() {
    let auth = Auth::start_with(|config| config.auth_attempts = 3).await;
    let (_, own) = auth.ada().await;
    let http = auth.with_token(&text(&own["access_token"]));
    for _ in 0..3 {
        let answer = change(&http, "a guess of a thief", NEW).await;
        assert_eq!((answer.status.as_u16(), answer.wrong_fields()), (422, vec!["old_password"]));
    }
    for answer in [change(&http, PASSWORD, NEW).await, auth.log_in(ADA, PASSWORD).await] {
        assert_eq!((answer.status.as_u16(), answer.code()), (429, "too_many_attempts"));
        assert_ne!(answer.header("retry-after"), "");
    }
    auth.clock.move_by(TimeDelta::seconds(31));
    assert_eq!(change(&http, PASSWORD, NEW).await.status, 204);
    auth.end().await;
}

#[tokio::test]
async fn guesses_of_the_old_password_are_limited_by_network_and_in_all() {
    let auth = Auth::start_with(|config| {
        config.auth_attempts = 1;
        config.auth_attempt_interval = Duration::from_mins(10);
    })
    .await;
    let (_, own) = auth.ada().await;
    let http = auth.with_token(&text(&own["access_token"]));
    let change_from = |address: String, old: &str| {
        let request = http.request(Method::PUT, "/api/password").header("x-forwarded-for", address);
        let request = request.json(&json!({"old_password": old, "new_password": NEW}));
        async { http.send(request).await.status.as_u16() }
    };
    for network in 0..9 {
        assert_eq!(change_from(format!("192.0.2.{network}"), "a guess of a thief").await, 422);
        assert_eq!(change_from(format!("192.0.2.{network}"), PASSWORD).await, 429);
    }
    // The owner is elsewhere, and a right password costs no attempt.
    assert_eq!(change_from("2001:db8::1".to_owned(), PASSWORD).await, 204);
    assert_eq!(change_from("2001:db8::2".to_owned(), NEW).await, 204);
    assert_eq!(change_from("192.0.2.10".to_owned(), "a guess of a thief").await, 422);
    assert_eq!(change_from("192.0.2.11".to_owned(), NEW).await, 429);
    auth.end().await;
}
