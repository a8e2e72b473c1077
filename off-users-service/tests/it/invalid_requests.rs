//! Invalid requests.

use crate::{Users, ada};
use serde_json::json;

#[tokio::test]
async fn all_invalid_fields_of_a_registration_are_reported() {
    let users = Users::start().await;
    let wrong = json!({
        "user": {"first_name": "\u{0}", "last_name": "x".repeat(101), "email": "nobody", "password": "short"},
        "devices": [{"mac_address": "02:00:00:00:00:01"}, {"mac_address": "not one"}],
    });
    let answer = users.http().post("/api/register", &wrong).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (422, "invalid_body"));
    assert_eq!(
        answer.wrong_fields(),
        ["user.first_name", "user.last_name", "user.email", "user.password", "devices[1].mac_address"]
    );
    let mut common = ada("ada@example.org", &["02:00:00:00:00:01"]);
    common["user"]["password"] = json!("Password1");
    let common = users.http().post("/api/register", &common).await;
    assert_eq!((common.status.as_u16(), common.wrong_fields()), (422, vec!["user.password"]));
    let none = users.register(&[]).await;
    assert_eq!(none.wrong_fields(), ["devices"]);
    let wrong_types = json!({"user": {"first_name": 1, "password": null}, "devices": [{}]});
    let wrong_types = users.http().post("/api/register", &wrong_types).await;
    let every_field = ["user.first_name", "user.last_name", "user.email", "user.password"];
    assert_eq!(wrong_types.wrong_fields(), [&every_field[..], &["devices[0].mac_address"]].concat());
    let empty = users.http().post("/api/register", &json!({})).await;
    assert_eq!(empty.wrong_fields(), [&every_field[..], &["devices"]].concat());
    let not_an_object = users.http().post("/api/register", &json!({"user": "Ada"})).await;
    assert_eq!(not_an_object.wrong_fields(), ["user"]);
    for array in [json!(["Ada"]), json!({"user": ["Ada", "Example", "ada@example.org", "long enough"], "devices": []})]
    {
        let answer = users.http().post("/api/register", &array).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (422, "invalid_body"), "{array}");
    }
    let malformed = users.http().post_text("/api/register", "{\"user\"").await;
    assert_eq!((malformed.status.as_u16(), malformed.code()), (400, "malformed_json"));
    users.end().await;
}

#[tokio::test]
async fn missing_resources_are_404_and_invalid_parameters_400() {
    let users = Users::start().await;
    for path in ["/api/users/1", "/api/devices/1", "/api/devices/lentils", "/api/users/99999999999999999999"] {
        let answer = users.http().get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{path}");
    }
    for path in ["/api/devices?limit=0", "/api/devices?limit=x", "/api/devices?cursor=x"] {
        let answer = users.http().get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "invalid_query"), "{path}");
    }
    users.end().await;
}
