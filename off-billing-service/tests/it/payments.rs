//! Deposits, withdrawals and their reversals over HTTP.

use crate::{Billing, add_person, add_person_with, count, euros, order};
use futures::future::join_all;
use off_events::Money;
use off_kit::auth::{Scope, Subject};
use off_testkit::{Answer, Http, tokens};
use serde_json::{Value, json};

const DEPOSITS: &str = "/api/account/deposits";
const WITHDRAWALS: &str = "/api/account/withdrawals";
const TRANSFERS: &str = "SELECT count(*) FROM billing.transfers";

/// Pays an amount of this many cents in or out.
async fn pay(http: &Http, path: &str, key: &str, cents: i64) -> Answer {
    http.post_with_key(path, key, &json!({"amount": euros(cents)})).await
}

async fn reverse(billing: &Billing, payment: &Value, reason: &str) -> Answer {
    let operator = tokens::token(&Subject::Client("operator".to_owned()), &[Scope::Operate]);
    let body = json!({"subject": payment["id"], "reason": reason});
    billing.http().with_token(operator).post("/api/account/reversals", &body).await
}

fn outcome(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.code())
}

#[tokio::test]
async fn a_person_pays_in_and_out() {
    let billing = Billing::start().await;
    let user = add_person(&billing.world).await;
    let person = billing.http().as_person(user);
    let deposit = pay(&person, DEPOSITS, "salary", 1000).await;
    assert_eq!(deposit.status, 201, "{deposit:?}");
    assert_eq!((&deposit.body["amount"], &deposit.body["balance"]), (&euros(1000), &euros(1000)));
    let withdrawal = pay(&person, WITHDRAWALS, "rent", 400).await;
    assert_eq!((withdrawal.status.as_u16(), &withdrawal.body["balance"]), (201, &euros(600)));
    let transfers = person.get("/api/account/transfers").await.body["transfers"].clone();
    assert_eq!((&transfers[0]["kind"], &transfers[0]["subject"]), (&json!("withdrawal"), &withdrawal.body["id"]));
    assert_eq!((&transfers[1]["kind"], &transfers[1]["subject"]), (&json!("deposit"), &deposit.body["id"]));
    billing.end().await;
}

#[tokio::test]
async fn a_repeated_payment_moves_money_once() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let person = billing.http().as_person(user);
    let before = count(billing.db(), TRANSFERS).await;
    for path in [DEPOSITS, WITHDRAWALS] {
        let answers = join_all((0..20).map(|_| pay(&person, path, "same", 100))).await;
        assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
        assert!(answers.iter().all(|answer| answer.body["id"] == answers[0].body["id"]));
    }
    assert_eq!(count(billing.db(), TRANSFERS).await, before + 2);
    assert_eq!(billing.account(user).await, (1000, 0));
    // A repeated request is answered with the current balance, even if the payment would not be possible now.
    assert_eq!(pay(&person, WITHDRAWALS, "all", 1000).await.body["balance"], euros(0));
    assert_eq!(pay(&person, WITHDRAWALS, "all", 1000).await.body["balance"], euros(0));
    billing.end().await;
}

#[tokio::test]
async fn a_key_is_required_and_belongs_to_one_amount_of_one_person() {
    let billing = Billing::start().await;
    let (user, other) = (add_person(&billing.world).await, add_person(&billing.world).await);
    let person = billing.http().as_person(user);
    for path in [DEPOSITS, WITHDRAWALS] {
        let missing = person.post(path, &json!({"amount": euros(1)})).await;
        assert_eq!(outcome(&missing), (422, "invalid_body"));
        assert_eq!(missing.wrong_fields(), ["Idempotency-Key"]);
        assert_eq!(pay(&person, path, "two words", 1).await.wrong_fields(), ["Idempotency-Key"]);
        let request = person.request(reqwest::Method::POST, path).json(&json!({"amount": euros(1)}));
        let twice = person.send(request.header("Idempotency-Key", "one").header("Idempotency-Key", "two")).await;
        assert_eq!(outcome(&twice), (400, "repeated_idempotency_key"));
    }
    assert_eq!(pay(&person, DEPOSITS, "key", 100).await.status, 201);
    let reused = pay(&person, DEPOSITS, "key", 101).await;
    assert_eq!(outcome(&reused), (422, "idempotency_key_reused"));
    // The same key for the other kind, and of another person.
    assert_eq!(pay(&person, WITHDRAWALS, "key", 30).await.body["balance"], euros(70));
    assert_eq!(pay(&billing.http().as_person(other), DEPOSITS, "key", 500).await.body["balance"], euros(500));
    assert_eq!(billing.account(user).await, (70, 0));
    billing.end().await;
}

#[tokio::test]
async fn nobody_can_pay_out_more_than_the_balance() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let person = billing.http().as_person(user);
    billing.handle(&[&order(user, 700)]).await;
    let refused = pay(&person, WITHDRAWALS, "one", 301).await;
    assert_eq!(outcome(&refused), (402, "insufficient_funds"));
    assert!(refused.body["detail"].as_str().unwrap().contains("3.00 EUR"), "{refused:?}");
    // The key can be used again, because nothing was paid.
    assert_eq!(pay(&person, WITHDRAWALS, "one", 300).await.body["balance"], euros(0));
    assert_eq!(billing.account(user).await, (0, 700));
    billing.end().await;
}

#[tokio::test]
async fn amounts_are_limited() {
    let billing = Billing::start().await;
    let user = add_person(&billing.world).await;
    let person = billing.http().as_person(user);
    for path in [DEPOSITS, WITHDRAWALS] {
        for wrong in
            [euros(0), euros(-1), euros(1_000_001), json!(5), json!({"amount": 5, "currency": "USD"}), json!(null)]
        {
            let answer = person.post_with_key(path, "key", &json!({"amount": wrong})).await;
            assert_eq!(outcome(&answer), (422, "invalid_body"), "{wrong}");
            assert_eq!(answer.wrong_fields(), ["amount"], "{wrong}");
        }
        assert_eq!(person.post_with_key(path, "key", &json!({})).await.wrong_fields(), ["amount"]);
    }
    assert_eq!(pay(&person, DEPOSITS, "largest", 1_000_000).await.status, 201);
    let full = add_person_with(&billing.world, Money::MAX_CENTS - 10).await;
    let person = billing.http().as_person(full);
    assert_eq!(outcome(&pay(&person, DEPOSITS, "key", 11).await), (409, "balance_too_high"));
    assert_eq!(pay(&person, DEPOSITS, "key", 10).await.body["balance"], euros(Money::MAX_CENTS));
    billing.end().await;
}

#[tokio::test]
async fn an_operator_reverses_a_payment_once() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 50).await;
    let person = billing.http().as_person(user);
    let deposit = pay(&person, DEPOSITS, "twice", 1000).await.body;
    let withdrawal = pay(&person, WITHDRAWALS, "lost", 150).await.body;
    let spent = reverse(&billing, &deposit, "too late").await;
    assert_eq!(outcome(&spent), (402, "insufficient_funds"));
    for (payment, reason, balance) in [(&withdrawal, " the bank lost it ", 1050), (&deposit, "paid in twice", 50)] {
        for _ in 0..3 {
            let reversed = reverse(&billing, payment, reason).await;
            let expected = json!({"user_id": user, "balance": euros(balance), "held": euros(0)});
            assert_eq!((reversed.status.as_u16(), reversed.body), (200, expected));
        }
    }
    let transfers = person.get("/api/account/transfers").await.body["transfers"].clone();
    let shown = |index: usize| (transfers[index]["kind"].clone(), transfers[index]["reason"].clone());
    assert_eq!(shown(0), (json!("reversal"), json!("paid in twice")));
    assert_eq!(shown(1), (json!("reversal"), json!("the bank lost it")));
    assert_eq!((&transfers[0]["is_credit"], &transfers[1]["is_credit"]), (&json!(false), &json!(true)));
    billing.end().await;
}

#[tokio::test]
async fn only_an_operator_reverses_and_only_payments() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let order = order(user, 600);
    billing.handle(&[&order]).await;
    let charge = json!({"id": order.id});
    assert_eq!(outcome(&reverse(&billing, &charge, "a charge").await), (404, "not_found"));
    let unknown = json!({"id": "01890a5d-ac96-774b-bcce-b302099a8057"});
    assert_eq!(outcome(&reverse(&billing, &unknown, "unknown").await), (404, "not_found"));
    let invalid = reverse(&billing, &json!({"id": "one"}), "  ").await;
    assert_eq!(outcome(&invalid), (422, "invalid_body"));
    assert_eq!(invalid.wrong_fields(), ["subject", "reason"]);
    for reason in [&*"x".repeat(201), "\u{200b}", "\u{202e}twice"] {
        assert_eq!(reverse(&billing, &unknown, reason).await.wrong_fields(), ["reason"], "{reason:?}");
    }
    let deposit = pay(&billing.http().as_person(user), DEPOSITS, "key", 100).await.body;
    let body = json!({"subject": deposit["id"], "reason": "mine"});
    for token in [tokens::person(user), tokens::token(&Subject::Client("generator".to_owned()), &[Scope::Simulate])] {
        assert_eq!(billing.http().with_token(token).post("/api/account/reversals", &body).await.status, 403);
    }
    assert_eq!(billing.account(user).await, (500, 600));
    billing.end().await;
}
