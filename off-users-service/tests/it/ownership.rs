//! Everybody reaches only what is theirs.

use crate::Users;
use off_kit::auth::{Scope, Subject};
use off_testkit::{Answer, Http, LENTILS, tokens};
use reqwest::Method;
use serde_json::{Value, json};

fn report() -> Value {
    let report = json!({"id": "one", "barcode": LENTILS, "quantity": 1, "timestamp": "2026-01-01T00:00:00Z"});
    json!({"consumptions": [report]})
}

fn profile(email: &str) -> Value {
    json!({"first_name": "Eve", "last_name": "Example", "email": email})
}

/// Sends a request without a body for `GET`, and with this one otherwise.
async fn send(http: &Http, method: &Method, path: &str, body: &Value) -> Answer {
    let request = http.request(method.clone(), path);
    http.send(if method == Method::GET { request } else { request.json(body) }).await
}

#[tokio::test]
async fn what_belongs_to_somebody_else_does_not_exist() {
    let users = Users::start().await;
    let ada = users.register_person("ada@example.org", &["02:00:00:00:00:01", "02:00:00:00:00:02"]).await;
    let bob = users.register_person("bob@example.org", &["02:00:00:00:00:03"]).await;
    let simulated = users.register_simulated("eve@example.org", &["02:00:00:00:00:04"]).await;
    let person = users.http().as_person(ada.id);
    let device = users.http().as_device(ada.ssds[0]);
    let generator = tokens::token(&Subject::Client("generator".to_owned()), &[Scope::Simulate]);
    let generator = users.http().with_token(generator);

    let user = |id: i64| format!("/api/users/{id}");
    let shelf = |ssd: i64| format!("/api/devices/{ssd}");
    let consumptions = |ssd: i64| format!("/api/devices/{ssd}/consumptions");
    let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
    // Each with a path that is the caller's own, and paths of others.
    let cases = [
        (&person, &get, user(ada.id), vec![user(bob.id), user(simulated.id)]),
        (&person, &put, user(ada.id), vec![user(bob.id), user(simulated.id)]),
        (&person, &get, shelf(ada.ssds[1]), vec![shelf(bob.ssds[0]), shelf(simulated.ssds[0])]),
        (&person, &post, consumptions(ada.ssds[1]), vec![consumptions(bob.ssds[0]), consumptions(simulated.ssds[0])]),
        (&device, &get, shelf(ada.ssds[0]), vec![shelf(ada.ssds[1]), shelf(bob.ssds[0])]),
        (&device, &post, consumptions(ada.ssds[0]), vec![consumptions(ada.ssds[1]), consumptions(bob.ssds[0])]),
        (&generator, &get, user(simulated.id), vec![user(ada.id)]),
        (&generator, &get, shelf(simulated.ssds[0]), vec![shelf(ada.ssds[0])]),
        (&generator, &post, consumptions(simulated.ssds[0]), vec![consumptions(ada.ssds[0])]),
    ];
    for (caller, method, own, others) in cases {
        let body = if method == put { profile("ada@example.org") } else { report() };
        let answer = send(caller, method, &own, &body).await;
        assert_eq!(answer.status, 200, "{method} {own}: {answer:?}");
        let unknown = own.replace(|c: char| c.is_ascii_digit(), "999999");
        let nothing = send(caller, method, &unknown, &body).await;
        for other in others {
            let answer = send(caller, method, &other, &body).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{method} {other}");
            assert_eq!(answer.body["title"], nothing.body["title"]);
            assert_eq!(answer.code(), nothing.code());
        }
    }
    // Nothing of the others changed: no report, no shelf item, no name.
    let reported: Vec<i64> = sqlx::query_scalar("SELECT DISTINCT ssd_id FROM users.shelf_items ORDER BY ssd_id")
        .fetch_all(&users.world.database.pool)
        .await
        .unwrap();
    assert_eq!(reported, [ada.ssds[0], ada.ssds[1], simulated.ssds[0]]);
    assert_eq!(users.http().get(&user(bob.id)).await.body["first_name"], "Ada");

    for (caller, expected) in [(&person, &ada.ssds), (&generator, &simulated.ssds)] {
        let page = caller.get("/api/devices").await;
        let listed: Vec<i64> =
            page.body["devices"].as_array().unwrap().iter().map(|d| d["ssd_id"].as_i64().unwrap()).collect();
        assert_eq!(&listed, expected);
    }
    users.end().await;
}

#[tokio::test]
async fn a_token_of_the_wrong_kind_is_refused() {
    let users = Users::start().await;
    let ada = users.register_person("ada@example.org", &["02:00:00:00:00:01"]).await;
    let operator = tokens::token(&Subject::Client("operator".to_owned()), &[Scope::Operate]);
    let callers = [users.http().anonymous(), users.http().as_device(ada.ssds[0]), users.http().with_token(operator)];
    let [anonymous, device, operator] = &callers;
    let (user, consumptions) = (format!("/api/users/{}", ada.id), format!("/api/devices/{}/consumptions", ada.ssds[0]));
    for (caller, method, path, status) in [
        (anonymous, Method::PUT, &*user, 401),
        (anonymous, Method::POST, "/api/devices", 401),
        (anonymous, Method::POST, &consumptions, 401),
        (device, Method::PUT, &user, 403),
        (device, Method::POST, "/api/devices", 403),
        (operator, Method::PUT, &user, 403),
        (operator, Method::POST, "/api/devices", 403),
        (operator, Method::POST, &consumptions, 403),
        (device, Method::POST, "/api/register", 403),
    ] {
        let answer = send(caller, &method, path, &json!({})).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    }
    users.end().await;
}
