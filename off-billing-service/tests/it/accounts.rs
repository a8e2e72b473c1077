//! Accounts and their transfers over HTTP.

use crate::{Billing, add_person, add_person_with, euros, order};
use off_events::OrderStatus::{Cancelled, Completed};
use off_kit::auth::{Scope, Subject};
use off_testkit::{Http, tokens};
use serde_json::{Value, json};

/// Makes a person a real one.
async fn make_real(billing: &Billing, user: i64) {
    sqlx::query("UPDATE users.users SET is_simulated = false WHERE id = $1")
        .bind(user)
        .execute(billing.db())
        .await
        .unwrap();
}

/// The service as a client with one scope sees it.
fn client(billing: &Billing, scope: Scope) -> Http {
    billing.http().with_token(tokens::token(&Subject::Client("client".to_owned()), &[scope]))
}

#[tokio::test]
async fn an_account_shows_the_balance_and_what_is_held() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let [open, completed, cancelled] = [300, 200, 100].map(|cents| order(user, cents));
    billing.handle(&[&open, &completed, &cancelled]).await;
    billing.handle(&[&completed.with_status(Completed), &cancelled.with_status(Cancelled)]).await;
    let person = billing.http().as_person(user);
    let expected = json!({"user_id": user, "balance": euros(500), "held": euros(300)});
    for path in ["/api/account".to_owned(), format!("/api/account?user_id={user}")] {
        let account = person.get(&path).await;
        assert_eq!((account.status.as_u16(), &account.body), (200, &expected));
    }
    billing.end().await;
}

#[tokio::test]
async fn a_person_without_an_account_has_an_empty_one() {
    let billing = Billing::start().await;
    let user = add_person(&billing.world).await;
    let person = billing.http().as_person(user);
    assert_eq!(person.get("/api/account").await.body, json!({"user_id": user, "balance": euros(0), "held": euros(0)}));
    assert_eq!(person.get("/api/account/transfers").await.body, json!({"transfers": []}));
    billing.end().await;
}

#[tokio::test]
async fn transfers_are_listed_newest_first_page_by_page() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let other = add_person_with(&billing.world, 1000).await;
    let orders: Vec<_> = [10, 20, 30, 40].map(|cents| order(user, cents)).into();
    for order in &orders {
        billing.handle(&[order, &crate::order(other, 5)]).await;
    }
    billing.handle(&[&orders[1].with_status(Cancelled), &orders[0].with_status(Completed)]).await;
    let person = billing.http().as_person(user);
    let (mut listed, mut path) = (Vec::new(), "/api/account/transfers?limit=2".to_owned());
    loop {
        let page = person.get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        let transfers = page.body["transfers"].as_array().unwrap();
        assert!(!transfers.is_empty() && transfers.len() <= 2);
        listed.extend(transfers.clone());
        let Some(cursor) = page.body["next_cursor"].as_i64() else { break };
        path = format!("/api/account/transfers?limit=2&cursor={cursor}");
    }
    let shown = |transfer: &Value| {
        (transfer["kind"].clone(), transfer["amount"]["amount"].clone(), transfer["is_credit"].clone())
    };
    let expected = [
        ("refund", 20, true),
        ("charge", 40, false),
        ("charge", 30, false),
        ("charge", 20, false),
        ("charge", 10, false),
        ("deposit", 1000, true),
    ];
    // The earning is a transfer between accounts of the system.
    let expected = expected.map(|(kind, cents, is_credit)| (json!(kind), json!(cents), json!(is_credit)));
    assert_eq!(listed.iter().map(shown).collect::<Vec<_>>(), expected);
    assert_eq!(listed[0]["subject"], json!(orders[1].id));
    assert_eq!(person.get("/api/account/transfers").await.body["transfers"], json!(listed));
    let of_order = |order: &off_events::Order| format!("/api/account/transfers?order_id={}", order.id);
    assert_eq!(person.get(&of_order(&orders[1])).await.body, json!({"transfers": [listed[0], listed[3]]}));
    assert_eq!(person.get(&of_order(&orders[0])).await.body["transfers"], json!([listed[4]]));
    assert_eq!(billing.http().as_person(other).get(&of_order(&orders[1])).await.body, json!({"transfers": []}));
    for wrong in ["limit=0", "limit=501", "cursor=x", "order_id=x"] {
        let answer = person.get(&format!("/api/account/transfers?{wrong}")).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "invalid_query"), "{wrong}");
    }
    billing.end().await;
}

#[tokio::test]
async fn the_account_of_somebody_else_does_not_exist() {
    let billing = Billing::start().await;
    let (user, real) = (add_person_with(&billing.world, 1000).await, add_person_with(&billing.world, 500).await);
    make_real(&billing, real).await;
    let (person, simulator) = (billing.http().as_person(user), client(&billing, Scope::Simulate));
    let operator = client(&billing, Scope::Operate);
    let account = |user: i64| format!("/api/account?user_id={user}");
    let transfers = |user: i64| format!("/api/account/transfers?user_id={user}");
    for path in [account(user), transfers(user)] {
        for http in [&person, &simulator, &operator] {
            assert_eq!(http.get(&path).await.status, 200, "{path}");
        }
    }
    for path in [account(real), transfers(real)] {
        for stranger in [&person, &simulator] {
            let answer = stranger.get(&path).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{path}");
        }
        assert_eq!(operator.get(&path).await.status, 200, "{path}");
    }
    for path in [account(999), transfers(999)] {
        for http in [&person, &simulator, &operator] {
            assert_eq!(http.get(&path).await.status, 404, "{path}");
        }
    }
    for path in ["/api/account", "/api/account/transfers"] {
        assert_eq!(operator.get(path).await.code(), "invalid_query");
        assert_eq!(simulator.get(path).await.code(), "invalid_query");
        assert_eq!(billing.http().as_device(1).get(path).await.status, 403);
        assert_eq!(billing.http().anonymous().get(path).await.status, 401);
    }
    billing.end().await;
}

#[tokio::test]
async fn only_the_money_of_simulated_people_can_be_simulated() {
    let billing = Billing::start().await;
    let (user, real) = (add_person_with(&billing.world, 1000).await, add_person_with(&billing.world, 500).await);
    make_real(&billing, real).await;
    let (person, simulator) = (billing.http().as_person(user), client(&billing, Scope::Simulate));
    for kind in ["deposits", "withdrawals"] {
        let pay = async |http: &Http, user: i64| {
            let path = format!("/api/account/{kind}?user_id={user}");
            http.post_with_key(&path, "one", &json!({"amount": euros(1)})).await.status.as_u16()
        };
        assert_eq!(
            (pay(&simulator, user).await, pay(&simulator, real).await, pay(&simulator, 999).await),
            (201, 404, 404)
        );
        assert_eq!((pay(&person, user).await, pay(&person, real).await), (201, 404));
        assert_eq!(pay(&client(&billing, Scope::Operate), user).await, 403);
    }
    assert_eq!(billing.account(real).await, (500, 0));
    billing.end().await;
}
