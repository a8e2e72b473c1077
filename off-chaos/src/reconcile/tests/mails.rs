//! The check of e-mails.

use super::{COMPLETED, consistent_world, findings, sql};
use crate::journal::{Entries, MailAnswer, MailAttempt};
use off_testkit::World;
use std::time::Duration;
use tokio::time::Instant;

/// The consistent world, whose person is real. The payment letters are switched off, the other e-mails are sent.
async fn world_with_mails() -> (World, Entries) {
    let (world, mut entries) = consistent_world().await;
    sql(
        &world,
        "UPDATE users.users SET is_simulated = false, email = 'ada@mail.dev';
         INSERT INTO letters.readers (user_id, not_mailed) VALUES (1, '{paid}');
         INSERT INTO letters.mails (letter_id, subject, kind, user_id, state, attempts, queued_at, next_at)
         SELECT id, subject, kind, user_id, 'sent', 1, now(), now() FROM letters.letters
         WHERE kind NOT IN ('welcome', 'paid')",
    )
    .await;
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT format('<%s.%s@off.example.com>', subject, kind) FROM letters.mails")
            .fetch_all(&world.database.pool)
            .await
            .unwrap();
    assert_eq!(ids.len(), 4);
    entries.mails.extend(ids.into_iter().map(|id| (id, vec![attempt(MailAnswer::Accepted)])));
    (world, entries)
}

fn attempt(answer: MailAnswer) -> MailAttempt {
    MailAttempt { to: "ada@mail.dev".to_owned(), at: Instant::now(), answer }
}

/// The e-mail of the delivery.
fn delivered() -> String {
    format!("<{COMPLETED}.delivered@off.example.com>")
}

/// What is found if the e-mail of the delivery is in this state after the mail server answered so.
async fn found(state: &'static str, answers: &[MailAnswer], outage: Option<Duration>) -> String {
    let (world, mut entries) = world_with_mails().await;
    sqlx::query("UPDATE letters.mails SET state = $1::letters.mail_state WHERE kind = 'delivered'")
        .bind(state)
        .execute(&world.database.pool)
        .await
        .unwrap();
    let began = Instant::now();
    let minutes = (0..).map(|minutes| began + Duration::from_mins(minutes));
    let attempts = answers.iter().zip(minutes).map(|(answer, at)| MailAttempt { at, ..attempt(*answer) });
    entries.mails.insert(delivered(), attempts.collect());
    entries.mail_outages.extend(outage.map(|after| began + after..=began + after));
    let found = findings(&world, &entries).await;
    world.end().await;
    found
}

#[tokio::test]
async fn every_contradiction_between_letters_and_emails_is_a_finding() {
    for (statement, finding) in [
        ("SELECT", ""),
        ("DELETE FROM letters.mails WHERE kind = 'delivered'", "is missing"),
        ("UPDATE users.users SET is_simulated = true", "was queued, but is not wanted"),
        ("UPDATE letters.readers SET not_mailed = '{delivered, paid}'", "was queued, but is not wanted"),
        ("UPDATE letters.readers SET not_mailed = '{}'", "is missing"),
        (
            "INSERT INTO letters.mails (letter_id, subject, kind, user_id, queued_at, next_at)
          SELECT id, subject, kind, user_id, now(), now() FROM letters.letters WHERE kind = 'welcome'",
            "was queued, but is not wanted",
        ),
        (
            "INSERT INTO letters.mails (letter_id, subject, kind, user_id, queued_at, next_at)
          SELECT 999, subject, kind, user_id, now(), now() FROM letters.letters WHERE kind = 'delivered'",
            "was queued twice",
        ),
        ("UPDATE users.users SET email = 'eve@mail.dev'", "was sent to another address"),
        ("UPDATE letters.mails SET state = 'suppressed' WHERE kind = 'delivered'", "ended, although"),
        ("UPDATE letters.mails SET state = 'expired' WHERE kind = 'delivered'", "ended, although"),
    ] {
        let (world, entries) = world_with_mails().await;
        sql(&world, statement).await;
        let found = findings(&world, &entries).await;
        assert!(if finding.is_empty() { found.is_empty() } else { found.contains(finding) }, "{statement}: {found}");
        world.end().await;
    }
}

#[tokio::test]
async fn the_state_of_an_email_agrees_with_the_answers_of_the_mail_server() {
    use MailAnswer::{Accepted, AcceptedLate, Incomplete, NotNow, Refused, Silent};
    for (state, answers, finding) in [
        ("sent", &[Accepted][..], ""),
        ("sending", &[Accepted], ""),
        ("sent", &[NotNow, Incomplete, Silent, AcceptedLate, Accepted], ""),
        ("queued", &[Silent], ""),
        ("queued", &[AcceptedLate], ""),
        ("queued", &[], ""),
        ("bounced", &[NotNow, Refused], ""),
        ("sent", &[], "did not accept it"),
        ("sent", &[Silent], "did not accept it"),
        ("sent", &[Incomplete], "did not accept it"),
        ("bounced", &[NotNow], "did not refuse it"),
        ("queued", &[Accepted], "is not sent"),
        ("bounced", &[Accepted, Refused], "is not sent"),
        ("sent", &[Accepted, Accepted], "was sent again"),
        ("sent", &[Accepted, Silent], "was sent again"),
    ] {
        let found = found(state, answers, None).await;
        assert!(
            if finding.is_empty() { found.is_empty() } else { found.contains(finding) },
            "{state} after {answers:?}: {found}"
        );
    }
}

#[tokio::test]
async fn only_a_fault_between_two_attempts_explains_the_second() {
    let twice = [MailAnswer::Accepted, MailAnswer::Accepted];
    assert_eq!(found("sent", &twice, Some(Duration::from_secs(30))).await, "");
    assert!(found("sent", &twice, Some(Duration::from_secs(90))).await.contains("was sent again"));
    assert_eq!(found("queued", &twice[..1], Some(Duration::from_secs(30))).await, "");
}

#[tokio::test]
async fn an_email_of_no_letter_is_a_finding() {
    let (world, mut entries) = world_with_mails().await;
    entries.mails.insert("<x@off.example.com>".to_owned(), vec![attempt(MailAnswer::Accepted)]);
    assert!(findings(&world, &entries).await.contains("which is no e-mail of a letter"));
    world.end().await;
}
