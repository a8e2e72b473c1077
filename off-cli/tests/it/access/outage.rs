//! The auth service is not there for a while.

use super::{
    forged,
    system::{Setup, System, registration},
};
use off_kit::Clock;
use off_testkit::{Answer, Http, LENTILS, eventually};
use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// How long the auth service is gone.
const OUTAGE: Duration = Duration::from_secs(3);

async fn sign_in(http: &Http, email: &str) -> Answer {
    http.post("/api/login", &json!({"email": email, "password": "correct horse battery"})).await
}

#[tokio::test]
async fn orders_go_on_while_the_auth_service_is_gone() {
    let mut system = System::start_with(Setup { by_url: true, clock: Clock::real(1.0) }).await;
    let order = json!({"ssd_id": system.ada.ssd_id, "barcode": LENTILS, "quantity": 1});
    // Tokens that nobody has verified yet, so that no cache helps.
    let device = format!("ssd-{}", system.ada.ssd_id);
    let mut fresh = Vec::new();
    for _ in 0..10 {
        fresh.push(system.exchange(&device, &system.ada.device_key).await);
    }
    // The gateway has exchanged this key once.
    let with_key = || {
        let request = system.anonymous().request(Method::POST, "/api/orders");
        request.basic_auth(&device, Some(&system.ada.device_key)).json(&order)
    };
    assert_eq!(system.anonymous().send(with_key()).await.status, 201);

    let with_key = with_key();
    let port = system.stop_auth().await;
    let (http, ada) = (system.anonymous(), system.of(&system.ada));
    // An invented key id makes each verifier ask for the keys again, in vain. It keeps those that it has.
    for verifier in [&http, &system.orders()] {
        let stranger = verifier.with_token(forged::by_a_stranger(&system.ada));
        assert_eq!(stranger.get("/api/orders").await.status, 401);
    }
    let (stopped, mut fresh, mut placed) = (Instant::now(), fresh.into_iter(), 0);
    while stopped.elapsed() < OUTAGE || placed < 50 {
        let with_token = fresh.next().map_or_else(|| ada.clone(), |token| http.with_token(token));
        let answer = with_token.post("/api/orders", &order).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        placed += 1;
    }
    assert_eq!(http.send(with_key).await.status, 201);
    for refused in [
        sign_in(&http, "ada@example.org").await,
        http.post("/api/refresh", &json!({"refresh_token": system.ada.refresh_token})).await,
    ] {
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.header("retry-after").parse::<u32>().is_ok(), "{refused:?}");
    }
    // A registration needs no auth service; the person signs in later.
    let eve = http.post("/api/register", &registration("eve@example.org", "02:00:00:00:00:0e")).await;
    assert_eq!((eve.status.as_u16(), eve.body.get("session")), (201, None), "{eve:?}");

    system.start_auth_at(port).await;
    for email in ["ada@example.org", "eve@example.org"] {
        let signed_in = eventually("a sign-in", || async {
            let answer = sign_in(&http, email).await;
            (answer.status != 503).then_some(answer)
        })
        .await;
        assert_eq!(signed_in.status, 200, "{signed_in:?}");
        let token = signed_in.body["access_token"].as_str().unwrap();
        assert_eq!(http.with_token(token).get("/api/orders").await.status, 200);
    }
    // Nobody was signed out.
    let refreshed = http.post("/api/refresh", &json!({"refresh_token": system.ada.refresh_token})).await;
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    system.end().await;
}
