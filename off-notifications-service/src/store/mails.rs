//! E-mails and their leases.

use super::{facts, kind};
use crate::domain::{Letter, MailState, Recipient};
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use std::time::Duration;

/// An e-mail that this replica has leased.
#[derive(Debug, Clone)]
pub(crate) struct LeasedMail {
    pub(crate) letter: Letter,
    /// `None` if the person does not exist.
    pub(crate) recipient: Option<Recipient>,
    pub(crate) queued_at: DateTime<Utc>,
    /// This attempt included. A lease that ended has another number of attempts.
    pub(crate) attempts: i32,
}

/// Leases at most `limit` e-mails that are due for `lease`, none to the domains `busy`. One whose lease has ended is due:
/// its sender died, and nobody knows whether it was sent.
pub(crate) async fn lease_mails(
    db: &PgPool,
    limit: i64,
    busy: &[String],
    lease: Duration,
) -> sqlx::Result<Vec<LeasedMail>> {
    let rows = sqlx::query!(
        r#"WITH leased AS (
               UPDATE letters.mails AS mail
               SET state = 'sending', attempts = attempts + 1, next_at = now() + make_interval(secs => $3)
               WHERE letter_id = ANY (ARRAY(
                   SELECT letter_id FROM letters.mails AS due LEFT JOIN users.recipients USING (user_id)
                   WHERE state IN ('queued', 'sending') AND next_at <= now()
                     AND (split_part(email, '@', 2) = ANY ($2)) IS NOT TRUE
                   ORDER BY next_at LIMIT $1 FOR UPDATE OF due SKIP LOCKED))
               RETURNING letter_id, subject, kind, user_id, queued_at, attempts
           )
           SELECT letter_id AS "letter_id!", leased.subject AS "subject!", leased.kind::text AS "kind!",
                  leased.queued_at AS "queued_at!", attempts AS "attempts!", letter.barcode, letter.quantity,
                  letter.total, letter.missing, letter.written_at, person.first_name AS "first_name?",
                  person.last_name AS "last_name?", person.email AS "email?",
                  (SELECT name FROM catalog.products WHERE barcode = letter.barcode) AS product
           FROM leased JOIN letters.letters AS letter ON (letter.subject, letter.kind) = (leased.subject, leased.kind)
                LEFT JOIN users.recipients AS person ON person.user_id = leased.user_id"#,
        limit,
        busy,
        lease.as_secs_f64(),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let letter = Letter {
                id: row.letter_id,
                subject: row.subject,
                kind: kind(&row.kind)?,
                facts: facts(row.barcode, row.quantity, row.total, row.missing)?,
                first_name: row.first_name.clone().unwrap_or_default(),
                product: row.product,
                written_at: row.written_at,
                is_read: false,
            };
            let person = row.first_name.zip(row.last_name).zip(row.email);
            let recipient = person.map(|((first_name, last_name), email)| Recipient { first_name, last_name, email });
            Ok(LeasedMail { letter, recipient, queued_at: row.queued_at, attempts: row.attempts })
        })
        .collect()
}

/// What became of an e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MailOutcome {
    pub(crate) state: MailState,
    /// When a queued one is tried again, from now.
    pub(crate) retry_after: Duration,
    /// What the mail server answered, or why the e-mail was not sent.
    pub(crate) detail: Option<String>,
}

/// Stores what became of e-mails, unless their lease has ended and another replica has taken them.
pub(crate) async fn record_mails(db: &PgPool, outcomes: &[(LeasedMail, MailOutcome)]) -> sqlx::Result<()> {
    let ids: Vec<i64> = outcomes.iter().map(|(mail, _)| mail.letter.id).collect();
    let attempts: Vec<i32> = outcomes.iter().map(|(mail, _)| mail.attempts).collect();
    let states: Vec<String> = outcomes.iter().map(|(_, outcome)| outcome.state.as_str().to_owned()).collect();
    let pauses: Vec<f64> = outcomes.iter().map(|(_, outcome)| outcome.retry_after.as_secs_f64()).collect();
    let details: Vec<Option<String>> = outcomes.iter().map(|(_, outcome)| outcome.detail.clone()).collect();
    sqlx::query!(
        "UPDATE letters.mails AS mail
         SET state = outcome.state::letters.mail_state, next_at = now() + make_interval(secs => outcome.pause),
             detail = outcome.detail
         FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::float8[], $5::text[])
              AS outcome (letter_id, attempts, state, pause, detail)
         WHERE mail.letter_id = outcome.letter_id AND mail.state = 'sending' AND mail.attempts = outcome.attempts",
        &ids,
        &attempts,
        &states,
        &pauses,
        &details as &[Option<String>],
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends the leases of e-mails that nobody tried to send.
pub(crate) async fn release_mails(db: &PgPool, mails: &[LeasedMail]) -> sqlx::Result<()> {
    let ids: Vec<i64> = mails.iter().map(|mail| mail.letter.id).collect();
    let attempts: Vec<i32> = mails.iter().map(|mail| mail.attempts).collect();
    sqlx::query!(
        "UPDATE letters.mails AS mail SET state = 'queued', attempts = mail.attempts - 1, next_at = now()
         FROM unnest($1::bigint[], $2::integer[]) AS leased (letter_id, attempts)
         WHERE mail.letter_id = leased.letter_id AND mail.state = 'sending' AND mail.attempts = leased.attempts",
        &ids,
        &attempts,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The e-mails that are not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MailBacklog {
    /// Their number, at most 100,000.
    pub(crate) count: i64,
    /// When the oldest of them was queued.
    pub(crate) oldest: Option<DateTime<Utc>>,
}

/// Counts the e-mails that are not finished.
pub(crate) async fn count_mails(db: &PgPool) -> sqlx::Result<MailBacklog> {
    sqlx::query_as!(
        MailBacklog,
        r#"SELECT count(*) AS "count!", min(queued_at) AS oldest
           FROM (SELECT queued_at FROM letters.mails WHERE state IN ('queued', 'sending') LIMIT 100000) AS mail"#
    )
    .fetch_one(db)
    .await
}
