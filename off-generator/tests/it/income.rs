//! Households get money.

use crate::TestSystem;
use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use off_generator::Config;
use off_testkit::{Http, eventually};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    future::IntoFuture,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::net::TcpListener;

/// Makes deposits at the billing service, and loses its answer to the first attempt of each.
#[derive(Clone)]
struct LossyBilling {
    billing: Http,
    /// The number of attempts of each deposit, by person and key.
    attempts: Arc<Mutex<BTreeMap<(String, String), usize>>>,
}

impl LossyBilling {
    /// Starts it; returns its URL, too.
    async fn start(system: &TestSystem) -> (Self, String) {
        let lossy = Self { billing: system.billing.http.clone(), attempts: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let router = Router::new().route("/api/account/deposits", post(deposit)).with_state(lossy.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        (lossy, url)
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeMap<(String, String), usize>> {
        self.attempts.lock().expect("no panic")
    }

    /// The deposits of this kind that were repeated.
    fn repeated(&self, kind: &str) -> usize {
        self.attempts().iter().filter(|((_, key), attempts)| key.starts_with(kind) && **attempts > 1).count()
    }
}

async fn deposit(
    State(lossy): State<LossyBilling>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let (user, key) = (query["user_id"].clone(), headers["idempotency-key"].to_str().expect("ASCII").to_owned());
    let path = format!("/api/account/deposits?user_id={user}");
    let answer = lossy.billing.post_with_key(&path, &key, &body).await;
    let mut attempts = lossy.attempts();
    let attempt = attempts.entry((user, key)).or_default();
    *attempt += 1;
    if *attempt == 1 { (StatusCode::BAD_GATEWAY, Json(Value::Null)) } else { (answer.status, Json(answer.body)) }
}

/// The number of deposits of each person.
async fn count_deposits(system: &TestSystem) -> BTreeMap<i64, usize> {
    let query = "SELECT credit_account, count(*) FROM billing.transfers WHERE kind = 'deposit' GROUP BY credit_account";
    let rows: Vec<(i64, i64)> =
        sqlx::query_as(query).fetch_all(&system.world.database.pool).await.expect("the deposits can be counted");
    rows.into_iter().map(|(user, count)| (user, count.try_into().expect("a number"))).collect()
}

fn config(system: &TestSystem) -> Config {
    Config { pay_interval: Duration::from_secs(3), ..system.config_that_orders(20.0) }
}

#[tokio::test]
async fn welcome_and_pay_arrive_once_although_they_are_repeated() {
    let system = TestSystem::new().await;
    let (lossy, url) = LossyBilling::start(&system).await;
    let config = Config { households: 3, billing_url: url.parse().expect("a URL"), ..config(&system) };
    for restarts in 1..=2 {
        let generator = system.start(config.clone()).await;
        eventually("each household was welcomed, and paid once per run", || async {
            (lossy.repeated("welcome:") == 3 && lossy.repeated("pay:") >= 3 * restarts).then_some(())
        })
        .await;
        generator.stop().await;
    }
    let mut expected: BTreeMap<i64, usize> = BTreeMap::new();
    for (user, _) in lossy.attempts().keys() {
        *expected.entry(user.parse().expect("an id")).or_default() += 1;
    }
    assert_eq!(count_deposits(&system).await, expected);
    system.end().await;
}

#[tokio::test]
async fn a_household_without_money_is_refused_and_orders_again_after_its_pay_day() {
    let system = TestSystem::new().await;
    // Half of the expected spending is for devices that are low, of which there are none.
    let config = Config { households: 6, income: 0.4, ..config(&system) };
    let generator = system.start(config).await;
    let query = "SELECT EXISTS (
            SELECT FROM billing.refusals AS refused
            JOIN billing.transfers AS pay ON pay.credit_account = refused.user_id AND pay.at > refused.at
            JOIN billing.transfers AS paid ON paid.debit_account = refused.user_id AND paid.at > pay.at
            WHERE pay.kind = 'deposit' AND paid.kind = 'charge')";
    eventually("an order after a refusal and a pay day", || async {
        let found = sqlx::query_scalar::<_, bool>(query).fetch_one(&system.world.database.pool).await;
        found.expect("the transfers can be read").then_some(())
    })
    .await;
    generator.stop().await;
    system.end().await;
}

#[tokio::test]
async fn without_income_nothing_is_deposited_and_all_orders_are_refused() {
    let system = TestSystem::new().await;
    let generator = system.start(Config { income: 0.0, ..config(&system) }).await;
    eventually("five refused orders", || async {
        let refused = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM billing.refusals");
        (refused.fetch_one(&system.world.database.pool).await.expect("they can be counted") >= 5).then_some(())
    })
    .await;
    generator.stop().await;
    assert!(count_deposits(&system).await.is_empty());
    system.end().await;
}
