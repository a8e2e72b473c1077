//! An operator uses the failure switches.

use crate::Operator;
use off_events::faults::FaultKind;
use serde_json::{Value, json};

const PATH: &str = "/api/operator/faults";

/// The switches that are on, by kind.
async fn on(operator: &Operator) -> Vec<Value> {
    let list = operator.http().get(PATH).await.body;
    let switches = list["switches"].as_array().unwrap();
    assert_eq!(switches.len(), FaultKind::ALL.len());
    switches.iter().filter_map(|switch| switch.get("fault").cloned()).collect()
}

#[tokio::test]
async fn a_switch_is_on_until_it_is_switched_off_or_ends() {
    let operator = Operator::start_with(|config| config.bus.allow_faults = true).await;
    let http = operator.http();
    assert_eq!(http.get(PATH).await.body["are_allowed"], true);
    let slow = format!("{PATH}/consumer_slow");
    let set = http.put(&slow, &json!({"share": 0.5, "amount": 10, "consumer": "due", "seed": 7, "seconds": 60})).await;
    assert_eq!(set.status, 200, "{set:?}");
    // Another one of the same kind takes its place, and one of another kind does not.
    assert_eq!(http.put(&slow, &json!({})).await.status, 200);
    assert_eq!(http.put(&format!("{PATH}/delivery_lost"), &json!({"seconds": 1})).await.status, 200);
    let faults = on(&operator).await;
    assert_eq!((&faults[0]["kind"], &faults[1]["kind"]), (&json!("delivery_lost"), &json!("consumer_slow")));
    assert_eq!((&faults[1]["share"], faults[1].get("consumer")), (&json!(1.0), None));
    while on(&operator).await.len() > 1 {}
    for _ in 0..2 {
        assert_eq!(http.delete(&slow).await.status, 204);
    }
    assert_eq!(on(&operator).await, Vec::<Value>::new());
    operator.end(&[]).await;
}

#[tokio::test]
async fn a_switch_that_makes_no_sense_is_refused_with_its_fields() {
    let operator = Operator::start_with(|config| config.bus.allow_faults = true).await;
    for (kind, body, fields) in [
        ("delivery_lost", json!({"share": 0}), &["share"][..]),
        ("delivery_lost", json!({"amount": 1, "consumer": "due"}), &["amount", "consumer"]),
        ("consumer_slow", json!({"consumer": "nobody", "amount": 5001}), &["amount", "consumer"]),
        ("poison", json!({"seconds": 0}), &["seconds"]),
        ("poison", json!({"seconds": 86_401}), &["seconds"]),
    ] {
        let answer = operator.http().put(&format!("{PATH}/{kind}"), &body).await;
        assert_eq!((answer.status.as_u16(), answer.wrong_fields()), (422, fields.to_vec()), "{kind} {body}");
    }
    assert_eq!(operator.http().put(&format!("{PATH}/nothing"), &json!({})).await.status, 404);
    assert_eq!(on(&operator).await, Vec::<Value>::new());
    operator.end(&[]).await;
}

#[tokio::test]
async fn nothing_is_switched_on_where_that_is_not_allowed() {
    let operator = Operator::start().await;
    assert_eq!(operator.http().get(PATH).await.body["are_allowed"], false);
    let refused = operator.http().put(&format!("{PATH}/poison"), &json!({})).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "faults_not_allowed"));
    assert_eq!(on(&operator).await, Vec::<Value>::new());
    operator.end(&[]).await;
}
