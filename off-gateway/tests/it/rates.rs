//! Rate limits.

use crate::{Gate, upstream::KEY};
use base64::{Engine, prelude::BASE64_STANDARD};
use off_gateway::Config;
use off_kit::Clock;
use reqwest::Method;
use serde_json::json;
use std::sync::atomic::Ordering;

/// Three requests in an hour, so that the test cannot take long enough for another one.
fn limit(config: &mut Config) {
    let rate = || "3/1h".parse().unwrap();
    let rates = &mut config.rates;
    (rates.rate_anonymous, rates.rate_sign_in, rates.rate_person, rates.rate_device) = (rate(), rate(), rate(), rate());
}

#[tokio::test]
async fn each_person_has_a_limit_and_sees_it() {
    let gate = Gate::start_with(Clock::real(1.0), limit).await;
    let ada = gate.http().as_person(1);
    for remaining in [2, 1, 0] {
        let answer = ada.get("/api/orders").await;
        assert_eq!((answer.status.as_u16(), answer.header("ratelimit-policy")), (200, "\"person\";q=3;w=3600"));
        assert!(answer.header("ratelimit").starts_with(&format!("\"person\";r={remaining};t=")), "{answer:?}");
    }
    let refused = ada.get("/api/orders").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (429, "rate_limited"));
    let seconds: u32 = refused.header("retry-after").parse().unwrap();
    assert!((1100..=1200).contains(&seconds), "{seconds}");
    assert_eq!(gate.upstream.paths().len(), 3);
    assert_eq!(gate.http().as_person(2).get("/api/orders").await.status, 200);
    // Clients that simulate or operate have another limit, here none.
    for _ in 0..10 {
        assert_eq!(gate.http().get("/api/orders").await.status, 200);
    }
    gate.end().await;
}

#[tokio::test]
async fn each_address_has_a_limit_for_signing_in_that_a_token_does_not_lift() {
    let behind_proxy = |config: &mut Config| {
        limit(config);
        config.trusted_proxies = 1;
    };
    let gate = Gate::start_with(Clock::real(1.0), behind_proxy).await;
    let login = |http: off_testkit::Http, from: &'static str| async move {
        let request = http.request(Method::POST, "/api/login").header("x-forwarded-for", from).json(&json!({}));
        request.send().await.unwrap().status().as_u16()
    };
    let anonymous = || gate.http().anonymous();
    for _ in 0..3 {
        assert_eq!(login(anonymous(), "203.0.113.1").await, 200);
    }
    assert_eq!(login(anonymous(), "203.0.113.1").await, 429);
    assert_eq!(login(anonymous(), "6.6.6.6, 203.0.113.1").await, 429, "the client wrote the first address");
    assert_eq!(login(gate.http().as_person(1), "203.0.113.1").await, 429);
    assert_eq!(login(anonymous(), "203.0.113.2").await, 200);
    // Other requests have a limit of their own.
    let request = anonymous().request(Method::GET, "/client/health/").header("x-forwarded-for", "203.0.113.1");
    assert_eq!(request.send().await.unwrap().status(), 200);
    gate.end().await;
}

#[tokio::test]
async fn a_changed_profile_counts_as_a_sign_in_and_against_the_limit_of_the_person() {
    let behind_proxy = |config: &mut Config| {
        limit(config);
        config.trusted_proxies = 1;
    };
    let gate = Gate::start_with(Clock::real(1.0), behind_proxy).await;
    let send = |http: off_testkit::Http, method: Method, from: &'static str| async move {
        let request = http.request(method, "/api/users/1").header("x-forwarded-for", from).json(&json!({}));
        request.send().await.unwrap().status().as_u16()
    };
    let ada = || gate.http().as_person(1);
    for from in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        assert_eq!(send(ada(), Method::PUT, from).await, 200);
    }
    assert_eq!(send(ada(), Method::PUT, "203.0.113.4").await, 429, "the person has had three requests");

    // Three sign-ins from one address, whoever they are.
    for (person, expected) in [(2, 404), (3, 404), (4, 429)] {
        assert_eq!(send(gate.http().as_person(person), Method::PUT, "203.0.113.1").await, expected);
    }
    assert_eq!(send(gate.http().as_person(4), Method::GET, "203.0.113.1").await, 404, "reading is no sign-in");
    // Clients that simulate or operate are exempt.
    for _ in 0..5 {
        assert_eq!(send(gate.http().clone(), Method::PUT, "203.0.113.1").await, 200);
    }
    gate.end().await;
}

#[tokio::test]
async fn guessed_tokens_and_keys_are_limited_by_address_and_do_not_block_valid_keys() {
    let gate = Gate::start_with(Clock::real(1.0), limit).await;
    let by_key =
        |key: &str| gate.http().anonymous().request(Method::GET, "/api/orders").basic_auth("ssd-7", Some(key)).send();
    assert_eq!(by_key(KEY).await.unwrap().status(), 200);
    for expected in [401, 401, 401, 429] {
        assert_eq!(gate.http().with_token("a.b.c").get("/api/orders").await.status, expected);
    }
    for expected in [401, 401, 401, 429] {
        assert_eq!(by_key("offd_guess").await.unwrap().status(), expected);
    }
    assert_eq!(by_key(KEY).await.unwrap().status(), 200);
    gate.end().await;
}

#[tokio::test]
async fn a_right_key_costs_no_guess_and_is_one_key_however_it_is_spelled() {
    let gate = Gate::start_with(Clock::real(1.0), |config| {
        limit(config);
        config.rates.rate_device = "off".parse().unwrap();
    })
    .await;
    let header = BASE64_STANDARD.encode(format!("ssd-7:{KEY}"));
    for scheme in ["Basic ", "basic ", "BASIC  ", "bAsIc   ", "Basic    ", "basic     "] {
        let request = gate.http().anonymous().request(Method::GET, "/api/orders");
        let answer = request.header("authorization", format!("{scheme}{header}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{scheme}");
    }
    assert_eq!(gate.upstream.seen.tokens.load(Ordering::SeqCst), 1);
    gate.end().await;
}
