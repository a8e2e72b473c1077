//! Who may pass.

use crate::{Gate, upstream::KEY};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{TimeDelta, Utc};
use off_events::{Event, Revoked, UserId};
use off_kit::{
    Clock,
    auth::{Scope, Subject},
};
use off_testkit::{eventually, tokens};
use reqwest::Method;
use serde_json::json;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn without_a_valid_token_only_public_routes_pass() {
    let gate = Gate::start().await;
    let anonymous = gate.http().anonymous();
    for path in ["/api/orders", "/api/users/1", "/api/devices", "/api/devices/1/keys", "/api/sessions", "/api/keys"] {
        let answer = anonymous.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code(), answer.header("www-authenticate")),
            (401, "unauthenticated", "Bearer")
        );
        for wrong in ["nonsense", "a.b.c", &"x".repeat(5000)] {
            let answer = anonymous.with_token(wrong).get(path).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (401, "unauthenticated"));
            assert!(answer.header("www-authenticate").contains("invalid_token"), "{answer:?}");
        }
    }
    let mut late = tokens::claims(&Subject::Person(UserId(1)), &[Scope::Person]);
    late.exp -= 3600;
    assert_eq!(anonymous.with_token(tokens::sign(&late)).get("/api/users/1").await.status, 401);
    assert_eq!(anonymous.get("/api/login").await.status, 401);
    assert_eq!(gate.upstream.paths(), [""; 0]);

    // An expired token does not prevent a sign-in.
    let expired = anonymous.with_token(tokens::sign(&late));
    for path in ["/api/login", "/api/register", "/api/refresh", "/api/logout", "/oauth/revoke"] {
        assert_eq!(expired.post(path, &json!({})).await.status, 200, "{path}");
    }
    assert_eq!(anonymous.get("/.well-known/jwks.json").await.status, 200);
    gate.end().await;
}

#[tokio::test]
async fn another_person_is_unknown() {
    let gate = Gate::start().await;
    let person = gate.http().as_person(17);
    assert_eq!(person.get("/api/users/17").await.status, 200);
    assert_eq!(person.get("/api/users/%31%37").await.status, 200);
    for path in ["/api/users/18", "/api/users/%318", "/api/users/018", "/api/users/18/x"] {
        let answer = person.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{path}");
        assert_eq!(answer.body["detail"], "there is no person 18", "{path}");
    }
    assert_eq!(gate.http().get("/api/users/18").await.status, 200, "an operator reads all");
    assert_eq!(gate.upstream.paths(), ["GET /api/users/17", "GET /api/users/%31%37", "GET /api/users/18"]);
    gate.end().await;
}

#[tokio::test]
async fn a_revoked_session_ends_at_once() {
    let gate = Gate::start().await;
    let claims = tokens::claims(&Subject::Person(UserId(1)), &[Scope::Person]);
    let person = gate.http().with_token(tokens::sign(&claims));
    assert_eq!(person.get("/api/orders").await.status, 200);
    #[expect(clippy::disallowed_methods, reason = "a time in the future is enough")]
    let revoked = Revoked { sid: claims.sid, until: Utc::now() + TimeDelta::minutes(10) };
    gate.nats.publish(revoked.subject(), &serde_json::to_value(&revoked).unwrap()).await;
    eventually("the token is refused", || async { (person.get("/api/orders").await.status == 401).then_some(()) })
        .await;
    assert_eq!(gate.http().get("/api/orders").await.status, 200);
    gate.end().await;
}

#[tokio::test]
async fn a_simple_client_sends_its_key_with_each_request() {
    let gate = Gate::start().await;
    let get = |name: &'static str, key: &str| {
        gate.http().anonymous().request(Method::GET, "/api/orders").basic_auth(name, Some(key)).send()
    };
    for _ in 0..3 {
        assert_eq!(get("ssd-7", KEY).await.unwrap().status(), 200);
    }
    assert_eq!(gate.upstream.seen.tokens.load(Ordering::SeqCst), 1, "the token is kept");
    let received = gate.upstream.last_headers();
    let authorization = received["authorization"].to_str().unwrap();
    assert!(authorization.starts_with("Bearer ") && !authorization.contains(KEY));

    let wrong = get("ssd-7", "offd_0123456789abcdef0123456789abcdef_wrong").await.unwrap();
    let challenge = wrong.headers()["www-authenticate"].to_str().unwrap();
    assert_eq!((wrong.status().as_u16(), challenge), (401, "Basic realm=\"off\""));
    // The password of a person is not sent on to anyone.
    assert_eq!(get("ada@example.org", "correct horse").await.unwrap().status(), 401);
    assert_eq!(gate.upstream.paths().len(), 4, "three requests and one token");
    gate.end().await;
}

#[tokio::test]
async fn the_token_of_a_revoked_key_is_forgotten() {
    let gate = Gate::start().await;
    let get = || gate.http().anonymous().request(Method::GET, "/api/orders").basic_auth("ssd-7", Some(KEY)).send();
    assert_eq!(get().await.unwrap().status(), 200);
    let token = gate.upstream.last_headers()["authorization"].to_str().unwrap()["Bearer ".len()..].to_owned();
    let payload = token.split('.').nth(1).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let revoked = json!({"sid": claims["sid"], "until": "2100-01-01T00:00:00Z"});
    gate.nats.publish(Revoked::SUBJECT, &revoked).await;
    // The key gets another token, here because the test's auth service knows nothing of the revocation.
    eventually("another token", || async {
        get().await.unwrap();
        (gate.upstream.seen.tokens.load(Ordering::SeqCst) == 2).then_some(())
    })
    .await;
    gate.end().await;
}

#[tokio::test]
async fn keys_cannot_be_checked_without_the_auth_service_but_tokens_can() {
    let gate =
        Gate::start_with(Clock::real(1.0), |config| config.services.auth_url = "http://127.0.0.1:1".parse().unwrap())
            .await;
    assert_eq!(gate.http().get("/api/orders").await.status, 200);
    let request = gate.http().anonymous().request(Method::GET, "/api/orders").basic_auth("ssd-7", Some(KEY));
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "2"));
    gate.end().await;
}
