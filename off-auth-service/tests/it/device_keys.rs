//! Keys of devices.

use crate::{Auth, read_token, sid_of, text};
use futures::future::join_all;
use off_testkit::{Http, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

/// A token of a device that signs in with this key.
async fn device_token(auth: &Auth, ssd_id: i64, key: &Value) -> Value {
    let answer = auth.client_token(&format!("ssd-{ssd_id}"), &text(key), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["access_token"].clone()
}

async fn create(http: &Http, ssd_id: i64) -> Value {
    let answer = http.post(&format!("/api/devices/{ssd_id}/keys"), &json!({"label": "kitchen"})).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body
}

/// The address of a key.
fn path_of(ssd_id: i64, key: &Value) -> String {
    format!("/api/devices/{ssd_id}/keys/{}", text(&key["id"]))
}

fn id_of(key: &Value) -> Uuid {
    text(&key["id"]).parse().unwrap()
}

#[tokio::test]
async fn a_device_signs_in_with_a_key_that_its_owner_made() {
    let auth = Auth::start().await;
    let (user_id, tokens) = auth.ada().await;
    let ssd_id = auth.add_device(user_id).await;
    let owner = auth.with_token(&text(&tokens["access_token"]));
    let keys = format!("/api/devices/{ssd_id}/keys");
    assert_eq!(owner.get(&keys).await.body, json!({"keys": []}));

    let answer = owner.post(&keys, &json!({"label": " kitchen "})).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (201, "no-store"));
    let key = answer.body;
    assert_eq!((&key["ssd_id"], &key["label"]), (&json!(ssd_id), &json!("kitchen")));
    assert!(text(&key["key"]).starts_with("offd_"));

    // The id alone, which the list shows, is not enough.
    let guessed = format!("offd_{}_{}", text(&key["id"]).replace('-', ""), "A".repeat(43));
    assert_eq!(auth.client_token(&format!("ssd-{ssd_id}"), &guessed, "").await.status, 401);
    let token = device_token(&auth, ssd_id, &key["key"]).await;
    let (_, claims) = read_token(&token);
    assert_eq!((&claims["sub"], &claims["scope"]), (&json!(format!("device:{ssd_id}")), &json!("device")));
    assert_eq!((&claims["sid"], &claims["client_id"]), (&key["id"], &json!(format!("ssd-{ssd_id}"))));

    let list = owner.get(&keys).await.body;
    let listed = &list["keys"][0];
    assert_eq!((&listed["id"], &listed["created_by"]), (&key["id"], &json!(format!("user:{user_id}"))));
    assert!(listed["last_used_at"].is_string() && !list.to_string().contains("offd_"), "{list}");
    let log = auth.security_log().await;
    assert_eq!(log.last().unwrap(), &("device_key_created".to_owned(), format!("user:{user_id}")));
    auth.end().await;
}

#[tokio::test]
async fn a_device_replaces_its_own_key_without_a_gap() {
    let auth = Auth::start().await;
    let (user_id, tokens) = auth.ada().await;
    let ssd_id = auth.add_device(user_id).await;
    let old = create(&auth.with_token(&text(&tokens["access_token"])), ssd_id).await;
    let old_token = device_token(&auth, ssd_id, &old["key"]).await;

    let new = create(&auth.with_token(&text(&old_token)), ssd_id).await;
    let new_token = device_token(&auth, ssd_id, &new["key"]).await;
    let device = auth.with_token(&text(&new_token));
    let (keys, old_key) =
        (format!("/api/devices/{ssd_id}/keys"), format!("/api/devices/{ssd_id}/keys/{}", text(&old["id"])));
    let third = device.post(&keys, &json!({})).await;
    assert_eq!((third.status.as_u16(), third.code()), (409, "too_many_keys"));

    assert_eq!(device.delete(&old_key).await.status, 204);
    assert_eq!(device.delete(&old_key).await.status, 404);
    assert_eq!(auth.client_token(&format!("ssd-{ssd_id}"), &text(&old["key"]), "").await.status, 401);
    let with_old = auth.with_token(&text(&old_token));
    eventually("the token of the old key is refused", || async {
        (with_old.get(&keys).await.status == 401).then_some(())
    })
    .await;
    auth.assert_revoked(&[sid_of(&old_token)]).await;
    assert_eq!(device.get(&keys).await.body["keys"].as_array().unwrap().len(), 1);
    let subject = format!("device:{ssd_id}");
    let log = auth.security_log().await;
    assert!(
        log.ends_with(&[
            ("device_key_created".to_owned(), subject.clone()),
            ("device_key_revoked".to_owned(), subject)
        ])
    );
    auth.end().await;
}

#[tokio::test]
async fn a_key_that_was_made_with_a_stolen_one_ends_with_it() {
    let auth = Auth::start().await;
    let (user_id, tokens) = auth.ada().await;
    let ssd_id = auth.add_device(user_id).await;
    let owner = auth.with_token(&text(&tokens["access_token"]));
    let stolen = create(&owner, ssd_id).await;
    let thief = auth.with_token(&text(&device_token(&auth, ssd_id, &stolen["key"]).await));
    let second = create(&thief, ssd_id).await;
    let second_token = device_token(&auth, ssd_id, &second["key"]).await;
    let list = owner.get(&format!("/api/devices/{ssd_id}/keys")).await.body;
    assert_eq!((list["keys"][0].get("made_with"), &list["keys"][1]["made_with"]), (None, &stolen["id"]));

    assert_eq!(owner.delete(&path_of(ssd_id, &stolen)).await.status, 204);
    assert_eq!(auth.client_token(&format!("ssd-{ssd_id}"), &text(&second["key"]), "").await.status, 401);
    let with_second = auth.with_token(&text(&second_token));
    eventually("the token of the second key is refused", || async {
        (with_second.get(&format!("/api/devices/{ssd_id}/keys")).await.status == 401).then_some(())
    })
    .await;
    auth.assert_revoked(&[id_of(&stolen), id_of(&second)]).await;
    assert_eq!(owner.delete(&path_of(ssd_id, &second)).await.status, 404);
    let log = auth.security_log().await;
    let revoked = ("device_key_revoked".to_owned(), format!("user:{user_id}"));
    assert!(log.ends_with(&[revoked.clone(), revoked]), "{log:?}");
    auth.end().await;
}

#[tokio::test]
async fn a_device_that_replaced_its_key_loses_the_new_one_when_its_owner_revokes_the_old_one() {
    let auth = Auth::start().await;
    let (user_id, tokens) = auth.ada().await;
    let ssd_id = auth.add_device(user_id).await;
    let owner = auth.with_token(&text(&tokens["access_token"]));
    let other = create(&owner, auth.add_device(user_id).await).await;
    let mut keys = vec![create(&owner, ssd_id).await];
    for _ in 0..2 {
        let old = keys.last().unwrap();
        let device = auth.with_token(&text(&device_token(&auth, ssd_id, &old["key"]).await));
        let new = create(&device, ssd_id).await;
        let device = auth.with_token(&text(&device_token(&auth, ssd_id, &new["key"]).await));
        assert_eq!(device.delete(&path_of(ssd_id, old)).await.status, 204);
        device_token(&auth, ssd_id, &new["key"]).await;
        keys.push(new);
    }
    // A key that the owner makes belongs to no other.
    let own = create(&owner, ssd_id).await;
    assert_eq!(owner.delete(&path_of(ssd_id, &keys[0])).await.status, 404);
    let id = format!("ssd-{ssd_id}");
    assert_eq!(auth.client_token(&id, &text(&keys[2]["key"]), "").await.status, 401);
    device_token(&auth, ssd_id, &own["key"]).await;
    device_token(&auth, other["ssd_id"].as_i64().unwrap(), &other["key"]).await;
    auth.assert_revoked(&[id_of(&keys[0]), id_of(&keys[1]), id_of(&keys[2])]).await;
    assert_eq!(owner.delete(&path_of(ssd_id, &keys[0])).await.status, 404);
    auth.end().await;
}

#[tokio::test]
async fn a_key_that_is_being_revoked_makes_no_other() {
    let auth = Auth::start().await;
    let (user_id, tokens) = auth.ada().await;
    let ssd_id = auth.add_device(user_id).await;
    let owner = auth.with_token(&text(&tokens["access_token"]));
    let stolen = create(&owner, ssd_id).await;
    let thief = auth.with_token(&text(&device_token(&auth, ssd_id, &stolen["key"]).await));
    // The token is still accepted, because its end was not announced.
    sqlx::query("UPDATE auth.device_keys SET revoked_at = now()").execute(&auth.world.database.pool).await.unwrap();
    let answer = thief.post(&format!("/api/devices/{ssd_id}/keys"), &json!({})).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (401, "unauthenticated"));
    auth.end().await;
}

#[tokio::test]
async fn a_device_of_somebody_else_does_not_exist() {
    let auth = Auth::start().await;
    let (ada, tokens) = auth.ada().await;
    let bob = auth.add_person("bob@example.org").await;
    let (of_ada, of_bob) = (auth.add_device(ada).await, auth.add_device(bob).await);
    let bobs = auth.log_in("bob@example.org", crate::PASSWORD).await.body;
    let key = create(&auth.with_token(&text(&bobs["access_token"])), of_bob).await;

    let owner = auth.with_token(&text(&tokens["access_token"]));
    let own_key = create(&owner, of_ada).await;
    let device = auth.with_token(&text(&device_token(&auth, of_ada, &own_key["key"]).await));
    for http in [owner, device] {
        for ssd_id in [of_bob, 999_999] {
            let keys = format!("/api/devices/{ssd_id}/keys");
            assert_eq!(http.get(&keys).await.status, 404);
            assert_eq!(http.post(&keys, &json!({})).await.status, 404);
            assert_eq!(http.delete(&format!("{keys}/{}", text(&key["id"]))).await.status, 404);
        }
        // A key is found only below its own device.
        let misplaced = format!("/api/devices/{of_ada}/keys/{}", text(&key["id"]));
        assert_eq!(http.delete(&misplaced).await.status, 404);
    }
    device_token(&auth, of_bob, &key["key"]).await;
    // The key of one device is not that of another.
    assert_eq!(auth.client_token(&format!("ssd-{of_ada}"), &text(&key["key"]), "").await.status, 401);
    let own = format!("/api/devices/{of_ada}/keys/{}", text(&own_key["id"]));
    assert_eq!(auth.with_token(&text(&tokens["access_token"])).delete(&own).await.status, 204);
    auth.assert_revoked(&[text(&own_key["id"]).parse().unwrap()]).await;
    auth.end().await;
}

#[tokio::test]
async fn concurrent_requests_do_not_get_around_the_limit_of_keys() {
    let auth = Auth::start().await;
    let (user_id, tokens) = auth.ada().await;
    let ssd_id = auth.add_device(user_id).await;
    let owner = auth.with_token(&text(&tokens["access_token"]));
    let keys = format!("/api/devices/{ssd_id}/keys");
    let body = json!({});
    let answers = join_all((0..8).map(|_| owner.post(&keys, &body))).await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    let refused = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!((created, refused), (2, 6), "{answers:?}");
    let wrong = owner.post(&keys, &json!({"label": "x".repeat(101)})).await;
    assert_eq!((wrong.status.as_u16(), wrong.wrong_fields()), (422, vec!["label"]));
    auth.end().await;
}
