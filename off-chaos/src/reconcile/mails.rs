//! Compares the e-mails in Postgres with what the mail server got.

use super::Verdict;
use crate::{
    journal::{Entries, MailAnswer, MailAttempt},
    smtp::MAIL_DOMAIN,
    store::MailRow,
};
use std::collections::HashSet;

/// Each letter that a real person wants by e-mail is one e-mail, and its state agrees with the answers of the mail
/// server.
pub(super) fn check_mails(rows: &[MailRow], entries: &Entries) -> Verdict {
    let (mut findings, mut known) = (Vec::new(), HashSet::new());
    let (mut wanted, mut sent, mut bounced, mut repeated) = (0, 0, 0, 0);
    for row in rows {
        let id = format!("<{}.{}@{MAIL_DOMAIN}>", row.subject, row.kind);
        let attempts = entries.mails.get(&id).map_or(&[][..], Vec::as_slice);
        let mail = Mail { row, attempts, entries };
        findings.extend(mail.problems().into_iter().map(|problem| format!("the e-mail {id} {problem}")));
        known.insert(id);
        wanted += usize::from(row.is_wanted);
        sent += usize::from(row.state.as_deref() == Some("sent"));
        bounced += usize::from(row.state.as_deref() == Some("bounced"));
        repeated += usize::from(attempts.iter().filter(|attempt| is_received(attempt)).count() > 1);
    }
    let unknown = entries.mails.keys().filter(|id| !known.contains(*id));
    findings.extend(unknown.map(|id| format!("the mail server got {id}, which is no e-mail of a letter")));
    let claim = format!(
        "each of {wanted} letters that a real person wants by e-mail is one e-mail, and no other letter is; {sent} are \
         sent and {bounced} refused; the mail server got {repeated} again because its answer was lost"
    );
    Verdict::new("mails", claim, findings)
}

/// Whether the mail server got an e-mail in full and did not refuse it.
fn is_received(attempt: &MailAttempt) -> bool {
    matches!(attempt.answer, MailAnswer::Accepted | MailAnswer::AcceptedLate | MailAnswer::Silent)
}

/// A letter as an e-mail, and the attempts to send it.
struct Mail<'a> {
    row: &'a MailRow,
    attempts: &'a [MailAttempt],
    entries: &'a Entries,
}

impl Mail<'_> {
    fn problems(&self) -> Vec<&'static str> {
        let MailRow { email, is_wanted, mails, state, .. } = self.row;
        let has = |answer| self.attempts.iter().any(|attempt| attempt.answer == answer);
        let mut problems = Vec::new();
        match (is_wanted, mails) {
            (true, 1) => {}
            (true, 0) => problems.push("is missing"),
            (false, _) => problems.push("was queued, but is not wanted"),
            (true, _) => problems.push("was queued twice"),
        }
        if self.attempts.iter().any(|attempt| Some(&attempt.to) != email.as_ref()) {
            problems.push("was sent to another address");
        }
        match state.as_deref() {
            None | Some("queued" | "sending") => {}
            Some("sent") if has(MailAnswer::Accepted) || has(MailAnswer::AcceptedLate) => {}
            Some("sent") => problems.push("is sent, but the mail server did not accept it"),
            Some("bounced") if has(MailAnswer::Refused) => {}
            Some("bounced") => problems.push("is bounced, but the mail server did not refuse it"),
            Some(_) => problems.push("ended, although a mail server accepts it"),
        }
        let is_final = matches!(state.as_deref(), Some("sent" | "sending"));
        for (index, attempt) in self.attempts.iter().enumerate() {
            let next = self.attempts[index + 1..].iter().find(|next| is_received(next)).map(|next| next.at);
            // A 250 is only forgotten if the service is killed before it stores it, or cannot store it before its lease
            // ends. Not exact: a shorter outage of the database counts, and so does a fault after it was stored.
            if attempt.answer != MailAnswer::Accepted || self.entries.may_hide_mail_outcome(attempt.at, next) {
                continue;
            }
            if next.is_some() {
                problems.push("was sent again after it had been accepted");
            } else if !is_final {
                problems.push("was accepted by the mail server, but is not sent");
            }
        }
        problems
    }
}
