//! What a person signs out or revokes counts at once, everywhere, also after a restart.

use super::system::{Setup, System};
use off_kit::Clock;
use off_testkit::{Answer, eventually_within};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// How soon a revocation counts.
const SOON: Duration = Duration::from_secs(1);

/// The statuses for a token at the gateway, the orders service and the users service.
async fn statuses(system: &System, token: &str, ssd_id: i64) -> [u16; 3] {
    let device = format!("/api/devices/{ssd_id}");
    let requests =
        [(system.anonymous(), "/api/orders"), (system.orders(), "/api/orders"), (system.users(), device.as_str())];
    let mut statuses = [0; 3];
    for (status, (http, path)) in statuses.iter_mut().zip(requests) {
        *status = http.with_token(token).get(path).await.status.as_u16();
    }
    statuses
}

/// Fails unless the gateway and the services refuse a token within [`SOON`].
async fn assert_refused_soon(system: &System, token: &str, ssd_id: i64) {
    eventually_within(SOON, "the token is refused everywhere", || async {
        (statuses(system, token, ssd_id).await == [401; 3]).then_some(())
    })
    .await;
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn a_session_that_was_signed_out_counts_nowhere() {
    let mut system = System::start_with(Setup { by_url: true, clock: Clock::real(1.0) }).await;
    let (http, ssd_id) = (system.anonymous(), system.ada.ssd_id);
    let login = json!({"email": "ada@example.org", "password": "correct horse battery"});
    let phone = http.post("/api/login", &login).await.body;
    let laptop = http.post("/api/login", &login).await.body;
    let (phone_token, laptop_token) = (text(&phone["access_token"]), text(&laptop["access_token"]));
    assert_eq!(statuses(&system, phone_token, ssd_id).await, [200; 3]);

    let out = http.post("/api/logout", &json!({"refresh_token": phone["refresh_token"]})).await;
    assert_eq!(out.status, 204, "{out:?}");
    assert_refused_soon(&system, phone_token, ssd_id).await;
    let refreshed = http.post("/api/refresh", &json!({"refresh_token": phone["refresh_token"]})).await;
    assert_eq!(refreshed.status, 401, "{refreshed:?}");
    // The other session goes on.
    assert_eq!(statuses(&system, laptop_token, ssd_id).await, [200; 3]);

    // Verifiers that start later have not seen the message. They are ready only when they know it.
    system.restart_verifiers().await;
    assert_eq!(statuses(&system, phone_token, ssd_id).await, [401; 3]);
    assert_eq!(statuses(&system, laptop_token, ssd_id).await, [200; 3]);
    system.end().await;
}

#[tokio::test]
async fn a_device_key_that_was_revoked_counts_nowhere() {
    let mut system = System::start_with(Setup { by_url: true, clock: Clock::real(1.0) }).await;
    let (ssd_id, id) = (system.ada.ssd_id, format!("ssd-{}", system.ada.ssd_id));
    let ada = system.of(&system.ada);
    let keys = format!("/api/devices/{ssd_id}/keys");
    let new_key = ada.post(&keys, &json!({"label": "kitchen"})).await.body;
    let new_token = system.exchange(&id, text(&new_key["key"])).await;
    let old_token = system.exchange(&id, &system.ada.device_key).await;
    let with_key = async |system: &System, key: &str| -> Answer {
        let http = system.anonymous();
        http.send(http.request(Method::GET, "/api/orders").basic_auth(&id, Some(key))).await
    };
    // The gateway knows the token of the key from now on.
    assert_eq!(with_key(&system, &system.ada.device_key).await.status, 200);
    assert_eq!(statuses(&system, &old_token, ssd_id).await, [200; 3]);

    let listed = ada.get(&keys).await.body;
    let old_id = text(&listed["keys"][0]["id"]);
    assert_ne!(old_id, text(&new_key["id"]), "{listed}");
    assert_eq!(ada.delete(&format!("{keys}/{old_id}")).await.status, 204);
    assert_refused_soon(&system, &old_token, ssd_id).await;
    assert_eq!(with_key(&system, &system.ada.device_key).await.status, 401);
    // The other key goes on.
    assert_eq!(statuses(&system, &new_token, ssd_id).await, [200; 3]);
    assert_eq!(with_key(&system, text(&new_key["key"])).await.status, 200);

    system.restart_verifiers().await;
    assert_eq!(statuses(&system, &old_token, ssd_id).await, [401; 3]);
    assert_eq!(with_key(&system, &system.ada.device_key).await.status, 401);
    assert_eq!(statuses(&system, &new_token, ssd_id).await, [200; 3]);
    system.end().await;
}
