//! Signing keys are rotated under load.

use super::{
    forged,
    system::{Owner, Setup, System},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::join3;
use off_kit::Clock;
use off_testkit::{Answer, Http, LENTILS, eventually, eventually_within};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    time::Duration,
};

/// The ids of the keys whose tokens placed an order, and whether the load goes on.
#[derive(Default)]
struct Load {
    kids: RefCell<BTreeSet<String>>,
    is_over: Cell<bool>,
}

fn kid(token: &str) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

fn order(owner: &Owner) -> Value {
    json!({"ssd_id": owner.ssd_id, "barcode": LENTILS, "quantity": 1})
}

fn assert_placed(answer: &Answer, token: &str) {
    assert_eq!(answer.status, 201, "with the key {}: {answer:?}", kid(token));
}

impl Load {
    /// Orders through the gateway and at the service itself, which verifies by itself.
    async fn place(&self, system: &System, owner: &Owner, token: &str) {
        for http in [system.anonymous(), system.orders()] {
            assert_placed(&http.with_token(token).post("/api/orders", &order(owner)).await, token);
        }
        self.kids.borrow_mut().insert(kid(token));
    }

    /// A person who refreshes the tokens before each order. The first token stays valid, too.
    async fn person(&self, system: &System, owner: &Owner) {
        let (http, mut refresh_token) = (system.anonymous(), owner.refresh_token.clone());
        let mut first = None;
        while !self.is_over.get() {
            let refreshed = http.post("/api/refresh", &json!({"refresh_token": refresh_token})).await;
            assert_eq!(refreshed.status, 200, "{refreshed:?}");
            refresh_token = refreshed.body["refresh_token"].as_str().unwrap().to_owned();
            let token = refreshed.body["access_token"].as_str().unwrap();
            self.place(system, owner, token).await;
            self.place(system, owner, first.get_or_insert_with(|| token.to_owned())).await;
        }
    }

    /// A device that exchanges its key before each order, or sends it as Basic.
    async fn device(&self, system: &System, owner: &Owner) {
        let id = format!("ssd-{}", owner.ssd_id);
        while !self.is_over.get() {
            let token = system.exchange(&id, &owner.device_key).await;
            self.place(system, owner, &token).await;
            let http = system.anonymous();
            let request = http.request(Method::POST, "/api/orders").basic_auth(&id, Some(&owner.device_key));
            let placed = http.send(request.json(&order(owner))).await;
            assert_eq!(placed.status, 201, "{placed:?}");
        }
    }

    /// Makes a new key, and waits until its tokens have placed orders.
    async fn rotate(&self, operator: &Http, delay: i64) {
        let made = operator.post("/api/keys", &json!({"signs_after_seconds": delay})).await;
        assert_eq!(made.status, 201, "{made:?}");
        let kid = made.body["kid"].as_str().unwrap();
        eventually("orders with the new key", || async { self.kids.borrow().contains(kid).then_some(()) }).await;
    }
}

#[tokio::test]
async fn keys_rotate_under_load_and_no_request_is_refused() {
    let system = System::start_with(Setup { by_url: true, clock: Clock::real(1.0) }).await;
    let operator = system.client("operator").await;
    let load = Load::default();
    let rotations = async {
        // Without a delay, no verifier knows the key when it begins to sign. One after another.
        for delay in [0, 2, 0, 0, 1] {
            load.rotate(&operator, delay).await;
        }
        load.is_over.set(true);
    };
    join3(load.person(&system, &system.ada), load.device(&system, &system.bob), rotations).await;
    assert_eq!(load.kids.borrow().len(), 6);
    system.end().await;
}

#[tokio::test]
async fn an_invented_key_id_does_not_keep_a_new_key_out() {
    let system = System::start_with(Setup { by_url: true, clock: Clock::real(1.0) }).await;
    let operator = system.client("operator").await;
    // The key of the tests is unknown here.
    let forged = forged::valid(&system.ada);
    for http in [system.anonymous(), system.orders()] {
        assert_eq!(http.with_token(&*forged).get("/api/orders").await.status, 401);
    }
    let made = operator.post("/api/keys", &json!({"signs_after_seconds": 0})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = format!("ssd-{}", system.ada.ssd_id);
    let token = eventually("a token of the new key", || async {
        let token = system.exchange(&id, &system.ada.device_key).await;
        (kid(&token) == made.body["kid"]).then_some(token)
    })
    .await;
    eventually_within(Duration::from_secs(10), "the new key counts everywhere", || async {
        let mut statuses = [0; 2];
        for (status, http) in statuses.iter_mut().zip([system.anonymous(), system.orders()]) {
            *status = http.with_token(&*token).get("/api/orders").await.status.as_u16();
        }
        (statuses == [200; 2]).then_some(())
    })
    .await;
    system.end().await;
}
