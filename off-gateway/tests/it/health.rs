//! The health of everything, from memory.

use crate::Gate;
use off_kit::Clock;
use off_testkit::eventually;
use serde_json::Value;
use std::sync::atomic::Ordering;

fn state<'a>(body: &'a Value, name: &str) -> &'a str {
    let services = body["services"].as_array().unwrap();
    services.iter().find(|service| service["name"] == name).map_or("", |service| service["status"].as_str().unwrap())
}

#[tokio::test]
async fn health_tells_what_is_away() {
    let gate = Gate::start_with(Clock::real(1.0).with_short_timeouts(50), |_| {}).await;
    let http = gate.http().anonymous();
    let well = eventually("all is well", || async {
        let answer = http.get("/health").await;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!((well["status"].as_str().unwrap(), state(&well, "orders"), state(&well, "gateway")), ("ok", "ok", "ok"));
    assert_eq!(state(&well, "generator"), "", "it is not there");

    gate.upstream.seen.not_ready.store(1, Ordering::SeqCst);
    eventually("it is not ready", || async { (http.get("/health").await.status == 503).then_some(()) }).await;
    let degraded = http.get("/client/health/").await;
    assert_eq!((degraded.status.as_u16(), degraded.body["status"].as_str().unwrap()), (200, "degraded"));
    assert_eq!(state(&degraded.body, "users"), "not_ready");

    gate.upstream.kill();
    eventually("it is away", || async {
        (state(&http.get("/client/health/").await.body, "users") == "away").then_some(())
    })
    .await;
    // The gateway itself is ready: it answers for those that are still there.
    assert_eq!(gate.gateway.health.get("/readyz").await.status, 200);
    gate.end().await;
}

#[tokio::test]
async fn a_generator_or_an_operator_service_that_is_away_matters_little() {
    let nowhere = || Some("http://127.0.0.1:1".parse().unwrap());
    let gate = Gate::start_with(Clock::real(1.0).with_short_timeouts(50), |config| {
        (config.services.generator_url, config.services.generator_health_url) = (nowhere(), nowhere());
        (config.services.operator_url, config.services.operator_health_url) = (nowhere(), nowhere());
    })
    .await;
    let body = eventually("the states are known", || async {
        let answer = gate.http().get("/health").await;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!((body["status"].as_str().unwrap(), state(&body, "generator")), ("degraded", "away"));
    assert_eq!(state(&body, "operator"), "away");
    gate.end().await;
}
