//! Clients obtain tokens with their secret.

use crate::{Auth, read_token, sid_of, text};
use off_testkit::eventually;
use serde_json::json;

#[tokio::test]
async fn a_client_gets_the_scopes_that_it_was_granted_or_fewer() {
    let auth = Auth::start().await;
    let secret = auth.add_client("generator", &["simulate", "operate"]).await;
    let all = auth.client_token("generator", &secret, "").await;
    assert_eq!((all.status.as_u16(), all.header("cache-control")), (200, "no-store"));
    assert_eq!((&all.body["token_type"], &all.body["expires_in"]), (&json!("Bearer"), &json!(600)));
    assert_eq!(all.body["scope"], "simulate operate");
    assert!(all.body.get("refresh_token").is_none());
    let (_, claims) = read_token(&all.body["access_token"]);
    assert_eq!((&claims["sub"], &claims["client_id"]), (&json!("client:generator"), &json!("generator")));

    let fewer = auth.client_token("generator", &secret, "&scope=simulate").await;
    assert_eq!(fewer.body["scope"], "simulate");
    assert_eq!(auth.with_token(&text(&fewer.body["access_token"])).get("/api/keys").await.status, 403);
    for scope in ["person", "simulate+person", "root", "simulate++operate"] {
        let answer = auth.client_token("generator", &secret, &format!("&scope={scope}")).await;
        assert_eq!((answer.status.as_u16(), &answer.body["error"]), (400, &json!("invalid_scope")), "{scope}");
    }
    // Only tokens of operators are in the security log.
    assert_eq!(auth.security_log().await, [("client_token".to_owned(), "client:generator".to_owned())]);
    auth.end().await;
}

#[tokio::test]
async fn a_replaced_secret_works_until_it_is_revoked() {
    let auth = Auth::start().await;
    let old = auth.add_client("generator", &["simulate"]).await;
    let add = "INSERT INTO auth.client_secrets (id, client_id, sha256, created_at)
               VALUES (gen_random_uuid(), 'generator', sha256('a secret from a file'), now())";
    let db = &auth.world.database.pool;
    sqlx::query(add).execute(db).await.unwrap();
    for secret in [&*old, "a secret from a file"] {
        assert_eq!(auth.client_token("generator", secret, "").await.status, 200);
    }
    let revoke = "UPDATE auth.client_secrets SET revoked_at = now() WHERE sha256 <> sha256('a secret from a file')";
    sqlx::query(revoke).execute(db).await.unwrap();
    assert_eq!(auth.client_token("generator", &old, "").await.status, 401);
    assert_eq!(auth.client_token("generator", "a secret from a file", "").await.status, 200);
    sqlx::query("UPDATE auth.clients SET disabled_at = now()").execute(db).await.unwrap();
    assert_eq!(auth.client_token("generator", "a secret from a file", "").await.status, 401);
    auth.end().await;
}

#[tokio::test]
async fn a_client_revokes_its_tokens_and_nobody_elses() {
    let auth = Auth::start().await;
    let (own, other) = (auth.add_client("one", &["operate"]).await, auth.add_client("other", &["operate"]).await);
    let token = text(&auth.client_token("one", &own, "").await.body["access_token"]);
    let body = format!("token={token}&token_type_hint=access_token");
    let is_valid = || async { auth.with_token(&token).get("/api/keys").await.status == 200 };

    let no_credentials = auth.post_form("/oauth/revoke", None, &body).await;
    assert_eq!(no_credentials.status, 200);
    assert_eq!(auth.post_form("/oauth/revoke", Some(("other", &other)), &body).await.status, 200);
    assert_eq!(auth.post_form("/oauth/revoke", Some(("one", &own)), "token=nonsense").await.status, 200);
    assert!(is_valid().await);

    assert_eq!(auth.post_form("/oauth/revoke", Some(("one", &own)), &body).await.status, 200);
    eventually("the token is refused", || async { (!is_valid().await).then_some(()) }).await;
    auth.assert_revoked(&[sid_of(&json!(token))]).await;
    auth.end().await;
}
