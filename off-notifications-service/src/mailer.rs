//! Sends the e-mails of letters.

use crate::{
    domain::{MAX_AGE, MailState, is_reserved, retry_after},
    relay::{Answer, Relay},
    store::{self, LeasedMail, MailOutcome},
};
use anyhow::Context;
use metrics::counter;
use off_kit::{
    Clock, db,
    jobs::{Attempt, JobQueue},
};
use sqlx::PgPool;
use std::time::Duration;
use tracing::{info, warn};

/// How much longer a lease is than the longest attempt, so that outcomes can be stored.
const LEASE_MARGIN: Duration = Duration::from_mins(1);

/// The queue of e-mails.
#[derive(Debug)]
pub(crate) struct MailQueue {
    pub(crate) db: PgPool,
    pub(crate) clock: Clock,
    pub(crate) relay: Relay,
}

impl JobQueue for MailQueue {
    const NAME: &'static str = "mail";
    type Job = LeasedMail;
    type Outcome = MailOutcome;

    async fn lease(&self, limit: usize, busy: &[String]) -> anyhow::Result<Vec<LeasedMail>> {
        let lease = self.relay.longest_attempt() + LEASE_MARGIN;
        let limit = i64::try_from(limit)?;
        db::with_timeout(self.clock, store::lease_mails(&self.db, limit, busy, lease)).await.context("leasing e-mails")
    }

    fn destination(mail: &LeasedMail) -> &str {
        mail.recipient.as_ref().map_or("", |recipient| recipient.domain())
    }

    async fn run(&self, mail: &LeasedMail) -> Attempt<MailOutcome> {
        let answer = match &mail.recipient {
            None => return suppressed("the person does not exist"),
            Some(recipient) if is_reserved(recipient.domain()) => return suppressed("the domain is reserved"),
            Some(recipient) => self.relay.send(&mail.letter, recipient).await,
        };
        let is_unavailable = Some(matches!(answer, Answer::Unavailable(_)));
        let outcome =
            outcome_of(answer, mail.attempts, (self.clock.now() - mail.queued_at).to_std().unwrap_or_default());
        report(mail, &outcome);
        Attempt { outcome, is_unavailable }
    }

    async fn record(&self, outcomes: &[(LeasedMail, MailOutcome)]) -> anyhow::Result<()> {
        db::with_timeout(self.clock, store::record_mails(&self.db, outcomes)).await.context("storing outcomes")?;
        for (_, outcome) in outcomes {
            counter!("off_mail_attempts_total", "outcome" => outcome.state.as_str()).increment(1);
        }
        Ok(())
    }

    async fn release(&self, mails: &[LeasedMail]) -> anyhow::Result<()> {
        db::with_timeout(self.clock, store::release_mails(&self.db, mails)).await.context("releasing e-mails")
    }
}

fn suppressed(why: &str) -> Attempt<MailOutcome> {
    Attempt { outcome: finished(MailState::Suppressed, Some(why.to_owned())), is_unavailable: None }
}

fn finished(state: MailState, detail: Option<String>) -> MailOutcome {
    MailOutcome { state, retry_after: Duration::ZERO, detail }
}

/// What becomes of an e-mail of this `age` after this many attempts.
fn outcome_of(answer: Answer, attempts: i32, age: Duration) -> MailOutcome {
    match answer {
        Answer::Accepted => finished(MailState::Sent, None),
        Answer::Refused(detail) => finished(MailState::Bounced, Some(detail)),
        Answer::NotNow(detail) | Answer::Unavailable(detail) => {
            // The last attempt is at the end of its time.
            match MAX_AGE.checked_sub(age).filter(|left| !left.is_zero()) {
                None => finished(MailState::Expired, Some(detail)),
                Some(left) => {
                    let retry_after = retry_after(attempts).min(left);
                    MailOutcome { state: MailState::Queued, retry_after, detail: Some(detail) }
                }
            }
        }
    }
}

/// Logs an attempt without personal data: an answer of a mail server may contain the address.
fn report(mail: &LeasedMail, outcome: &MailOutcome) {
    let (letter_id, attempts, state) = (mail.letter.id, mail.attempts, outcome.state.as_str());
    match outcome.state {
        MailState::Sent => info!(letter_id, attempts, "an e-mail was sent"),
        MailState::Queued => info!(letter_id, attempts, "an e-mail was not accepted yet"),
        MailState::Bounced | MailState::Expired | MailState::Suppressed => {
            warn!(letter_id, attempts, state, "an e-mail is not sent; `letters.mails` has the reason");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_is_tried_again_until_it_expires() {
        let not_now = || Answer::NotNow("450 try later".to_owned());
        let first = outcome_of(not_now(), 1, Duration::ZERO);
        assert_eq!(first.state, MailState::Queued);
        assert!((48..=72).contains(&first.retry_after.as_secs()), "{first:?}");
        assert_eq!(outcome_of(not_now(), 9, MAX_AGE).state, MailState::Expired);
        let last = outcome_of(not_now(), 9, Duration::from_mins(48 * 60 - 1));
        assert_eq!((last.state, last.retry_after.as_secs()), (MailState::Queued, 60));
        assert_eq!(
            outcome_of(Answer::Unavailable("connection refused".to_owned()), 1, Duration::ZERO).state,
            MailState::Queued
        );
        assert_eq!(
            outcome_of(Answer::Refused("550 no such user".to_owned()), 1, Duration::ZERO).state,
            MailState::Bounced
        );
        assert_eq!(outcome_of(Answer::Accepted, 9, MAX_AGE).state, MailState::Sent);
    }
}
