//! An operator runs an audit.

use crate::Operator;
use off_testkit::eventually;
use serde_json::{Value, json};

async fn audit(operator: &Operator) -> Value {
    let started = operator.http().post("/api/operator/audits", &json!({})).await;
    assert_eq!(started.status, 202, "{started:?}");
    eventually("the audit has ended", || async {
        let state = operator.http().get("/api/operator/audits/latest").await.body;
        state["running_since"].is_null().then_some(state)
    })
    .await
}

#[tokio::test]
async fn an_audit_shows_each_check_and_what_it_found() {
    let operator = Operator::start().await;
    let nothing = operator.http().get("/api/operator/audits/latest").await;
    assert_eq!((nothing.status.as_u16(), nothing.body), (200, json!({})));
    let passed = audit(&operator).await;
    let latest = &passed["latest"];
    assert_eq!((&latest["passed"], &latest["verdict"]), (&json!(true), &json!("every order is accounted for")));
    let checks: Vec<&str> =
        latest["lines"].as_array().unwrap().iter().map(|line| line["check"].as_str().unwrap()).collect();
    assert_eq!(checks, ["orders", "history", "deliveries", "money", "letters", "shelves", "outbox", "broker"]);

    operator.world.add_device().await;
    sqlx::query("INSERT INTO billing.accounts (user_id, balance) VALUES (1, 5)")
        .execute(&operator.world.database.pool)
        .await
        .unwrap();
    let failed = audit(&operator).await;
    let money = &failed["latest"]["lines"][3];
    assert_eq!((&failed["latest"]["passed"], &money["is_true"]), (&json!(false), &json!(false)), "{failed}");
    assert_eq!(money["findings"], json!(["the account of person 1 holds 5 cents and should hold 0"]));
    operator.end(&[]).await;
}

#[tokio::test]
async fn one_audit_runs_at_a_time_and_one_that_cannot_check_everything_has_no_result() {
    let operator = Operator::start().await;
    let db = &operator.world.database.pool;
    // The audit waits for the table.
    let mut lock = db.begin().await.unwrap();
    sqlx::query("LOCK TABLE billing.refusals").execute(&mut *lock).await.unwrap();
    assert_eq!(operator.http().post("/api/operator/audits", &json!({})).await.status, 202);
    let second = operator.http().post("/api/operator/audits", &json!({})).await;
    assert_eq!((second.status.as_u16(), second.code()), (409, "already_running"));
    eventually("the audit waits", || async {
        let ended: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(db)
        .await
        .unwrap();
        (ended > 0).then_some(())
    })
    .await;
    let state = eventually("the audit has failed", || async {
        let state = operator.http().get("/api/operator/audits/latest").await.body;
        state["running_since"].is_null().then_some(state)
    })
    .await;
    assert!(state["failure"].is_string() && state["latest"].is_null(), "{state}");
    lock.rollback().await.unwrap();
    operator.end(&[]).await;
}
