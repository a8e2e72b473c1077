//! People change their profiles.

use crate::Users;
use serde_json::{Value, json};

fn profile(email: &str, phone: &Value) -> Value {
    json!({"first_name": "Ada", "last_name": "Lovelace", "email": email, "phone": phone})
}

/// The e-mail addresses of all people and of their accounts.
async fn emails(users: &Users) -> Vec<(i64, String, String)> {
    sqlx::query_as(
        "SELECT id, users.email, accounts.email FROM users.users JOIN auth.accounts ON user_id = id ORDER BY id",
    )
    .fetch_all(&users.world.database.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_person_who_changes_their_email_signs_in_with_the_new_one() {
    let users = Users::start().await;
    let ada = users.register_person("ada@example.org", &["02:00:00:00:00:01"]).await;
    let (http, path) = (users.http().as_person(ada.id), format!("/api/users/{}", ada.id));
    assert!(http.get(&path).await.body.get("phone").is_none());

    let new = profile(" Ada@New.example.org", &json!("+49 30 123456"));
    let changed = http.put(&path, &new).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(changed.body, http.get(&path).await.body);
    let shown = ["last_name", "email", "phone"].map(|name| changed.body[name].clone());
    assert_eq!(shown, ["Lovelace", "ada@new.example.org", "+4930123456"]);
    assert_eq!(changed.body["ssd_ids"], json!(ada.ssds));
    let email = "ada@new.example.org".to_owned();
    assert_eq!(emails(&users).await, [(ada.id, email.clone(), email.clone())]);

    // A repetition changes nothing, and is no event.
    assert_eq!(http.put(&path, &new).await.body, changed.body);
    let mut events = users.security_events().await.into_iter().filter(|event| event.0 != "device_key_created");
    let subject = format!("user:{}", ada.id);
    for kind in ["email_changed", "profile_changed"] {
        let event = events.next().unwrap();
        assert_eq!((&*event.0, &event.1, &*event.3), (kind, &subject, ""));
    }
    assert!(events.next().is_none());

    // Without a phone number in it, the profile has none.
    for without in [profile(&email, &Value::Null), json!({"first_name": "Ada", "last_name": "L.", "email": email})] {
        http.put(&path, &profile(&email, &json!("+4930123456"))).await;
        let cleared = http.put(&path, &without).await;
        assert_eq!((cleared.status.as_u16(), cleared.body.get("phone")), (200, None));
        assert!(http.get(&path).await.body.get("phone").is_none());
    }
    // The old address is free again.
    users.register_person("ada@example.org", &["02:00:00:00:00:02"]).await;
    users.end().await;
}

#[tokio::test]
async fn the_email_of_somebody_else_is_refused_and_nothing_changes() {
    let users = Users::start().await;
    let ada = users.register_person("ada@example.org", &["02:00:00:00:00:01"]).await;
    users.register_person("bob@example.org", &["02:00:00:00:00:02"]).await;
    let (http, path) = (users.http().as_person(ada.id), format!("/api/users/{}", ada.id));
    let before = http.get(&path).await.body;
    let refused = http.put(&path, &profile("BOB@example.org", &json!("+4930123456"))).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "email_taken"));
    assert_eq!(http.get(&path).await.body, before);
    let wrong = json!({"first_name": "\u{0}", "last_name": 1, "email": "nobody", "phone": "030 123456"});
    let invalid = http.put(&path, &wrong).await;
    assert_eq!(invalid.wrong_fields(), ["first_name", "last_name", "email", "phone"]);
    assert_eq!(http.put(&path, &json!({})).await.wrong_fields(), ["first_name", "last_name", "email"]);
    assert_eq!(http.get(&path).await.body, before);
    users.end().await;
}

#[tokio::test]
async fn concurrent_changes_leave_one_email_for_the_person_and_the_account() {
    let users = Users::start().await;
    let ada = users.register_person("ada@example.org", &["02:00:00:00:00:01"]).await;
    let changes = (0..24).map(|number| {
        let (http, path) = (users.http().as_person(ada.id), format!("/api/users/{}", ada.id));
        async move { http.put(&path, &profile(&format!("ada{}@example.org", number % 3), &Value::Null)).await.status }
    });
    let statuses = futures::future::join_all(changes).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let emails = emails(&users).await;
    assert_eq!(emails[0].1, emails[0].2);
    users.end().await;
}
