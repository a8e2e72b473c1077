//! People see and end their sessions.

use crate::{ADA, Auth, PASSWORD, sid_of, text};
use axum::http::Method;
use serde_json::json;
use uuid::Uuid;

#[tokio::test]
async fn a_person_sees_from_where_they_are_signed_in_and_ends_a_session() {
    let auth = Auth::start().await;
    let (id, own) = auth.ada().await;
    let request = auth.http().request(Method::POST, "/api/login").header("user-agent", "a phone");
    let request = request.header("x-forwarded-for", "192.0.2.7").json(&json!({"email": ADA, "password": PASSWORD}));
    let phone = auth.http().send(request).await.body;

    let http = auth.with_token(&text(&own["access_token"]));
    let list = http.get("/api/sessions").await.body;
    let sessions = list["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let session = sessions.iter().find(|session| session["is_current"] == false).unwrap();
    assert_eq!((&session["user_agent"], &session["address"]), (&json!("a phone"), &json!("192.0.2.7")));
    assert_eq!(session["id"], json!(sid_of(&phone["access_token"])));

    let path = format!("/api/sessions/{}", text(&session["id"]));
    assert_eq!(http.delete(&path).await.status, 204);
    assert_eq!(http.delete(&path).await.status, 404);
    auth.wait_until_refused(&phone["access_token"]).await;
    assert_eq!(auth.refresh(&phone).await.status, 401);
    assert_eq!(auth.refresh(&own).await.status, 200);
    auth.assert_revoked(&[sid_of(&phone["access_token"])]).await;
    assert_eq!(auth.security_log().await.last().unwrap(), &("session_revoked".to_owned(), format!("user:{id}")));
    auth.end().await;
}

#[tokio::test]
async fn a_session_of_somebody_else_does_not_exist() {
    let auth = Auth::start().await;
    let (_, ada) = auth.ada().await;
    auth.add_person("bob@example.org").await;
    let bob = auth.log_in("bob@example.org", PASSWORD).await.body;
    let http = auth.with_token(&text(&bob["access_token"]));
    assert_eq!(http.get("/api/sessions").await.body["sessions"].as_array().unwrap().len(), 1);
    for id in [sid_of(&ada["access_token"]).to_string(), Uuid::now_v7().to_string(), "nonsense".to_owned()] {
        let answer = http.delete(&format!("/api/sessions/{id}")).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{id}");
    }
    assert_eq!(auth.refresh(&ada).await.status, 200);
    auth.end().await;
}

#[tokio::test]
async fn only_people_have_sessions() {
    let auth = Auth::start().await;
    let operator = auth.operator().await;
    for http in [auth.http(), auth.with_token("nonsense")] {
        let answer = http.get("/api/sessions").await;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, "unauthenticated"));
    }
    assert_eq!(auth.with_token(&operator).get("/api/sessions").await.status, 403);
    // A key that this service did not publish.
    assert_eq!(auth.service.http.as_person(1).get("/api/sessions").await.status, 401);
    auth.end().await;
}

#[tokio::test]
async fn the_sessions_of_a_person_are_bounded() {
    let auth = Auth::start().await;
    let (id, first) = auth.ada().await;
    let copy = "INSERT INTO auth.sessions (id, user_id, salt, created_at, refreshed_at, idle_until, ends_at)
                SELECT gen_random_uuid(), $1, '\\x00', now(), now() + interval '1 second', now() + interval '1 day',
                       now() + interval '1 day'
                FROM generate_series(1, 99)";
    sqlx::query(copy).bind(id).execute(&auth.world.database.pool).await.unwrap();
    assert_eq!(auth.status_with(&first["access_token"]).await, 200);
    let latest = auth.log_in(ADA, PASSWORD).await.body;
    auth.wait_until_refused(&first["access_token"]).await;
    auth.assert_revoked(&[sid_of(&first["access_token"])]).await;
    let http = auth.with_token(&text(&latest["access_token"]));
    assert_eq!(http.get("/api/sessions").await.body["sessions"].as_array().unwrap().len(), 100);
    auth.end().await;
}
