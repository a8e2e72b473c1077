//! Checks the letters that belong to no order. Those of an order are compared with it.

use super::Verdict;
use crate::store::{self, OddLetter};
use sqlx::PgPool;

/// Every letter is about an order that exists, or welcomes a person once.
pub(super) async fn check_letters(db: &PgPool) -> anyhow::Result<Verdict> {
    let odd = store::find_odd_letters(db).await?;
    let findings = odd.iter().map(|OddLetter { subject, kind, user_id }| {
        let problem = if kind == "welcome" { "is unknown, or the second one" } else { "is about an unknown order" };
        format!("the letter {kind} about {subject} to person {user_id} {problem}")
    });
    let count = store::count_letters(db).await?;
    let claim = format!("each of {count} letters is about an order that exists, or the one welcome to a person");
    Ok(Verdict::new("letters", claim, findings.collect()))
}
