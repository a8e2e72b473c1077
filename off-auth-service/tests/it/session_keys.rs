//! A session may have a key, which a browser keeps in a cookie.

use crate::{ADA, Auth, PASSWORD, sid_of, text};
use chrono::TimeDelta;
use off_testkit::Answer;
use serde_json::{Value, json};
use std::time::Duration;

impl Auth {
    /// Signs Ada in with a session key.
    async fn ada_with_key(&self) -> Value {
        self.add_person(ADA).await;
        let login = json!({"email": ADA, "password": PASSWORD, "session_key": true});
        self.http().post("/api/login", &login).await.body
    }

    async fn token_of(&self, session: &Value) -> Answer {
        self.client_token("session", &text(&session["session_key"]), "").await
    }
}

#[tokio::test]
async fn a_session_key_gets_tokens_of_its_person_until_the_session_ends() {
    let auth = Auth::start().await;
    let session = auth.ada_with_key().await;
    assert!(text(&session["session_key"]).starts_with("offk_") && session.get("refresh_token").is_none(), "{session}");
    let token = auth.token_of(&session).await;
    assert_eq!((token.status.as_u16(), &token.body["scope"]), (200, &json!("person")), "{token:?}");
    // Both tokens are of the one session, which the person sees and can end.
    assert_eq!(sid_of(&token.body["access_token"]), sid_of(&session["access_token"]));
    let http = auth.with_token(&text(&token.body["access_token"]));
    let sessions = http.get("/api/sessions").await.body;
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1);
    let id = text(&sessions["sessions"][0]["id"]);
    assert_eq!(http.delete(&format!("/api/sessions/{id}")).await.status, 204);
    assert_eq!(auth.token_of(&session).await.status, 401);
    auth.wait_until_refused(&token.body["access_token"]).await;
    auth.end().await;
}

#[tokio::test]
async fn a_session_with_a_key_ends_without_use_and_lives_on_with_it() {
    let auth = Auth::start_with(|config| {
        (config.auth_session_idle, config.auth_session_max) = (Duration::from_hours(3), Duration::from_hours(7));
    })
    .await;
    let first = auth.ada_with_key().await;
    let login = json!({"email": ADA, "password": PASSWORD, "session_key": true});
    let idle = auth.http().post("/api/login", &login).await.body;
    for _ in 0..3 {
        auth.clock.move_by(TimeDelta::hours(2));
        assert_eq!(auth.token_of(&first).await.status, 200);
    }
    assert_eq!(auth.token_of(&idle).await.status, 401);
    // In any case it ends in the end.
    auth.clock.move_by(TimeDelta::hours(2));
    assert_eq!(auth.token_of(&first).await.status, 401);
    auth.end().await;
}

#[tokio::test]
async fn revoking_a_session_key_ends_its_session() {
    let auth = Auth::start().await;
    let session = auth.ada_with_key().await;
    let body = format!("token={}", text(&session["session_key"]));
    for _ in 0..2 {
        assert_eq!(auth.post_form("/oauth/revoke", None, &body).await.status, 200);
    }
    assert_eq!(auth.token_of(&session).await.status, 401);
    auth.assert_revoked(&[sid_of(&session["access_token"])]).await;
    auth.end().await;
}

#[tokio::test]
async fn a_wrong_session_key_ends_and_gets_nothing() {
    let auth = Auth::start().await;
    let session = auth.ada_with_key().await;
    let key = text(&session["session_key"]);
    let (start, secret) = key.split_at("offk_".len() + 33);
    let other = format!("{start}{}", if secret.starts_with('A') { "B" } else { "A" }.to_owned() + &secret[1..]);
    for wrong in [other.as_str(), &key.replace("offk_", "offd_"), "nonsense"] {
        assert_eq!(auth.client_token("session", wrong, "").await.status, 401, "{wrong}");
        assert_eq!(auth.post_form("/oauth/revoke", None, &format!("token={wrong}")).await.status, 200);
    }
    // The key belongs to no device and no client.
    assert_eq!(auth.client_token("ssd-1", &key, "").await.status, 401);
    assert_eq!(auth.token_of(&session).await.status, 200);
    let stored: Vec<u8> =
        sqlx::query_scalar("SELECT key_sha256 FROM auth.sessions").fetch_one(&auth.world.database.pool).await.unwrap();
    assert_eq!(stored.len(), 32, "only the digest is stored");
    auth.end().await;
}

#[tokio::test]
async fn a_session_has_a_key_or_a_cookie() {
    let auth = Auth::start().await;
    auth.add_person(ADA).await;
    let login = json!({"email": ADA, "password": PASSWORD, "session_key": true, "cookie": true});
    assert_eq!(auth.http().post("/api/login", &login).await.wrong_fields(), ["session_key"]);
    auth.end().await;
}
