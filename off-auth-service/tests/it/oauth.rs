//! The OAuth endpoints have the forms of their RFCs.

use crate::{Auth, sid_of, text};
use axum::http::Method;
use off_testkit::Answer;
use serde_json::json;

fn assert_oauth_error(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.status.as_u16(), &answer.body["error"]), (status, &json!(error)), "{answer:?}");
    assert_eq!((answer.header("content-type"), answer.header("cache-control")), ("application/json", "no-store"));
    let challenge = if status == 401 { "Basic realm=\"off\"" } else { "" };
    assert_eq!(answer.header("www-authenticate"), challenge);
}

#[tokio::test]
async fn errors_are_those_of_rfc_6749() {
    let auth = Auth::start().await;
    let secret = auth.add_client("generator", &["simulate"]).await;
    let own = Some(("generator", &*secret));
    for (body, error) in [
        ("", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("grant_type=password&username=ada&password=x", "unsupported_grant_type"),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        ("grant_type=client_credentials&scope=operate", "invalid_scope"),
    ] {
        assert_oauth_error(&auth.post_form("/oauth/token", own, body).await, 400, error);
    }
    let good = "grant_type=client_credentials";
    let number = "ssd-1";
    for credentials in [
        None,
        Some(("generator", "wrong")),
        Some(("nobody", &*secret)),
        Some(("\0", "x")),
        Some((number, &*secret)),
        Some(("ssd-+1", "x")),
        Some(("", "")),
    ] {
        assert_oauth_error(&auth.post_form("/oauth/token", credentials, good).await, 401, "invalid_client");
    }
    let json = auth.http().post("/oauth/token", &json!({"grant_type": "client_credentials"})).await;
    assert_oauth_error(&json, 400, "invalid_request");
    let large = format!("{good}&more={}", "x".repeat(70_000));
    assert_eq!(auth.post_form("/oauth/token", own, &large).await.code(), "too_large");
    assert_oauth_error(&auth.post_form("/oauth/revoke", own, "").await, 400, "invalid_request");
    let wrong = auth.post_form("/oauth/revoke", Some(("generator", "wrong")), "token=x").await;
    assert_oauth_error(&wrong, 401, "invalid_client");
    auth.end().await;
}

#[tokio::test]
async fn credentials_are_form_decoded_after_base64() {
    let auth = Auth::start().await;
    let secret = auth.add_client("a client: ü", &["simulate"]).await;
    assert_eq!(auth.client_token("a+client%3A+%C3%BC", &secret, "").await.status, 200);
    auth.end().await;
}

#[tokio::test]
async fn revoking_a_refresh_token_ends_its_session_without_credentials() {
    let auth = Auth::start().await;
    let (_, tokens) = auth.ada().await;
    let body = format!("token={}&token_type_hint=refresh_token", text(&tokens["refresh_token"]));
    for _ in 0..2 {
        let answer = auth.post_form("/oauth/revoke", None, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(auth.refresh(&tokens).await.status, 401);
    auth.wait_until_refused(&tokens["access_token"]).await;
    auth.assert_revoked(&[sid_of(&tokens["access_token"])]).await;
    auth.end().await;
}

#[tokio::test]
async fn the_metadata_of_rfc_8414_names_the_endpoints_below_the_issuer() {
    let auth = Auth::start().await;
    let answer = auth.http().get("/.well-known/oauth-authorization-server").await;
    assert_eq!(answer.status, 200);
    let base = "http://localhost:8080";
    assert_eq!(answer.body["issuer"], base);
    assert_eq!(answer.body["token_endpoint"], format!("{base}/oauth/token"));
    assert_eq!(answer.body["revocation_endpoint"], format!("{base}/oauth/revoke"));
    assert_eq!(answer.body["jwks_uri"], format!("{base}/.well-known/jwks.json"));
    assert_eq!(answer.body["response_types_supported"], json!([]));
    assert_eq!(answer.body["grant_types_supported"], json!(["client_credentials"]));
    assert_eq!(answer.body["token_endpoint_auth_methods_supported"], json!(["client_secret_basic"]));

    let keys = auth.http().get("/.well-known/jwks.json").await;
    assert_eq!(keys.header("cache-control"), "public, max-age=300");
    let [key] = &keys.body["keys"].as_array().unwrap()[..] else { panic!("{keys:?}") };
    assert_eq!((&key["kty"], &key["crv"]), (&json!("EC"), &json!("P-256")));
    assert_eq!((&key["alg"], &key["use"]), (&json!("ES256"), &json!("sig")));
    assert!(key["kid"].is_string() && key.get("d").is_none());
    let head = auth.http().send(auth.http().request(Method::HEAD, "/.well-known/jwks.json")).await;
    assert_eq!(head.status, 200);
    auth.end().await;
}
