//! Compares the money in Postgres with the deposits of clients and with the orders.

use super::{Verdict, orders::StoredOrder};
use crate::{
    journal::{Deposit, Entries, Outcome},
    store::{self, DepositRow},
};
use off_events::OrderStatus;
use sqlx::PgPool;
use std::collections::{BTreeMap, HashMap};

/// The deposits that are stored, and the findings about them.
pub(super) struct Deposits {
    /// What each person paid in, in cents.
    paid_in: BTreeMap<i64, i64>,
    verdict: Verdict,
}

/// Every deposit that was answered with 201 is stored once with its amount, and one without a response at most once.
pub(super) async fn check_deposits(db: &PgPool, entries: &Entries) -> anyhow::Result<Deposits> {
    let mut stored: HashMap<_, DepositRow> =
        store::read_deposits(db).await?.into_iter().map(|row| (row.id, row)).collect();
    let (mut findings, mut paid_in) = (Vec::new(), BTreeMap::new());
    let (mut answered, mut unanswered) = (0, BTreeMap::<(i64, i64), i64>::new());
    for (key, (Deposit { user, amount }, outcome)) in &entries.deposits {
        let expected = (user.0, amount.cents());
        match outcome {
            Outcome::Accepted(id) => {
                answered += 1;
                *paid_in.entry(expected.0).or_default() += expected.1;
                let found = stored.remove(id).map(|row| (row.user_id, row.cents));
                if found != Some(expected) {
                    findings.push(format!("{key} of {amount} was answered with 201, but is stored as {found:?}"));
                }
            }
            Outcome::Rejected(reason) => findings.push(format!("{key} was rejected: {reason}")),
            Outcome::Unknown => *unanswered.entry(expected).or_default() += 1,
        }
    }
    let without_answer = stored.len();
    for row in stored.into_values() {
        *paid_in.entry(row.user_id).or_default() += row.cents;
        let left = unanswered.entry((row.user_id, row.cents)).or_default();
        *left -= 1;
        if *left < 0 {
            findings.push(format!("deposit {} of {} cents was not requested, or is stored again", row.id, row.cents));
        }
    }
    let claim = format!(
        "each of {answered} deposits answered with 201 is stored once; of those without a response {without_answer} are, \
         each once"
    );
    Ok(Deposits { paid_in, verdict: Verdict::new("deposits", claim, findings) })
}

/// Each balance is what the person paid in, without what the delivered orders cost; nothing is held any more.
pub(super) async fn check_balances(
    db: &PgPool,
    orders: &HashMap<String, StoredOrder>,
    Deposits { mut paid_in, verdict }: Deposits,
) -> anyhow::Result<[Verdict; 2]> {
    for order in orders.values().filter(|order| order.status == OrderStatus::Completed) {
        *paid_in.entry(order.row.user_id).or_default() -= order.row.total;
    }
    let mut balances = store::read_balances(db).await?;
    let mut findings = Vec::new();
    for (user, expected) in &paid_in {
        let balance = balances.remove(user).unwrap_or_default();
        if balance != *expected || balance < 0 {
            findings.push(format!("the account of person {user} has {balance} cents instead of {expected}"));
        }
    }
    let unexpected = balances.iter().filter(|(_, balance)| **balance != 0);
    findings.extend(unexpected.map(|(user, balance)| format!("person {user} has {balance} cents and paid nothing in")));
    let held = store::find_held(db).await?;
    if held != 0 {
        findings.push(format!("{held} cents are held, but no order is in progress"));
    }
    let claim = format!(
        "each of {} balances is what was paid in, without the delivered orders, and nothing is held",
        paid_in.len()
    );
    Ok([verdict, Verdict::new("balances", claim, findings)])
}
