//! People add devices.

use crate::Users;
use off_kit::auth::OpaqueKey;
use serde_json::json;

#[tokio::test]
async fn a_person_adds_a_device_and_gets_its_key() {
    let users = Users::start().await;
    let ada = users.register_person("ada@example.org", &["02:00:00:00:00:01"]).await;
    let http = users.http().as_person(ada.id);
    let added = http.post("/api/devices", &json!({"mac_address": "02-00-00-00-00-02"})).await;
    assert_eq!((added.status.as_u16(), added.header("cache-control")), (201, "no-store"), "{added:?}");
    assert_eq!(added.body["mac_address"], "02:00:00:00:00:02");
    let path = added.header("location");
    assert_eq!(path, format!("/api/devices/{}", added.body["ssd_id"]));
    assert_eq!(http.get(path).await.body["user_id"], ada.id);
    let device = users.http().as_device(added.body["ssd_id"].as_i64().unwrap());
    assert_eq!(device.get(path).await.body["mac_address"], "02:00:00:00:00:02");

    let (id, digest) = OpaqueKey::parse(OpaqueKey::DEVICE, added.body["key"].as_str().unwrap()).unwrap();
    let stored: Vec<u8> = sqlx::query_scalar("SELECT sha256 FROM auth.device_keys WHERE id = $1")
        .bind(id)
        .fetch_one(&users.world.database.pool)
        .await
        .unwrap();
    assert_eq!(stored, digest);
    assert_eq!(users.security_events().await.last().unwrap().0, "device_key_created");

    for mac_address in ["02:00:00:00:00:01", "02:00:00:00:00:02"] {
        let taken = http.post("/api/devices", &json!({"mac_address": mac_address})).await;
        assert_eq!((taken.status.as_u16(), taken.code()), (409, "mac_address_taken"));
    }
    for invalid in [json!({}), json!({"mac_address": 2}), json!({"mac_address": "02:00"})] {
        assert_eq!(http.post("/api/devices", &invalid).await.wrong_fields(), ["mac_address"]);
    }
    for of_no_device in ["ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "01:00:5e:00:00:01"] {
        let refused = http.post("/api/devices", &json!({"mac_address": of_no_device})).await;
        assert_eq!((refused.status.as_u16(), refused.wrong_fields()), (422, vec!["mac_address"]));
        let registration = users.http().post("/api/register", &crate::ada("bob@example.org", &[of_no_device])).await;
        assert_eq!(registration.wrong_fields(), ["devices[0].mac_address"]);
    }
    let nobody = users.http().as_person(999).post("/api/devices", &json!({"mac_address": "02:00:00:00:00:03"})).await;
    assert_eq!((nobody.status.as_u16(), nobody.code()), (404, "not_found"));
    assert_eq!(users.count("users.devices").await, 2);
    users.end().await;
}

#[tokio::test]
async fn a_person_has_at_most_50_devices_and_refused_ones_take_no_ids() {
    let users = Users::start().await;
    let ada = users.register_person("ada@example.org", &["02:00:00:00:00:00"]).await;
    sqlx::query(
        "INSERT INTO users.devices (user_id, mac_address)
         SELECT $1, '02:00:00:00:00:' || lpad(to_hex(number), 2, '0') FROM generate_series(1, 46) AS number",
    )
    .bind(ada.id)
    .execute(&users.world.database.pool)
    .await
    .unwrap();
    let additions = (0..8).map(|number| {
        let http = users.http().as_person(ada.id);
        let new = json!({"mac_address": format!("02:00:00:00:01:{number:02x}")});
        async move { http.post("/api/devices", &new).await }
    });
    let answers = futures::future::join_all(additions).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 201).collect();
    assert!(refused.len() == 5 && refused.iter().all(|answer| answer.code() == "too_many_devices"), "{answers:?}");
    assert_eq!(users.count("users.devices").await, 50);
    let newest: i64 = sqlx::query_scalar("SELECT last_value FROM users.devices_id_seq")
        .fetch_one(&users.world.database.pool)
        .await
        .unwrap();
    assert_eq!(newest, 50);
    users.end().await;
}
