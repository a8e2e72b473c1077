//! The mail server that e-mails are handed to.

use crate::{
    config::MailConfig,
    domain::{Letter, Recipient},
    text::Text,
};
use anyhow::{Context, anyhow, ensure};
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, MultiPart, header},
    transport::smtp::{self, PoolConfig},
};
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// The mail server.
#[derive(Debug)]
pub(crate) struct Relay {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    timeout: Duration,
}

/// How the mail server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It accepted the e-mail.
    Accepted,
    /// It refused the e-mail for good, or the e-mail cannot be written.
    Refused(String),
    /// It may accept the e-mail later.
    NotNow(String),
    /// It did not answer, closed the connection, or accepts no e-mail at all now. If the connection broke at the end, the
    /// e-mail may have been sent.
    Unavailable(String),
}

/// The service is closing the connection (RFC 5321 section 3.8).
const CLOSING: u16 = 421;
/// Authentication is required, was refused, or is too weak (RFC 4954 section 6): that concerns all e-mails.
const AUTHENTICATION: [u16; 4] = [530, 534, 535, 538];

/// The longest answer of a mail server that is kept, in characters.
const LONGEST_DETAIL: usize = 300;

impl Relay {
    /// The mail server of `config`, if it has one. Connects when the first e-mail is sent.
    pub(crate) fn new(config: &MailConfig) -> anyhow::Result<Option<Self>> {
        let Some(url) = config.url()? else { return Ok(None) };
        let from: Mailbox =
            config.smtp_from.parse().context("SMTP_FROM: expected a mailbox like off <off@example.com>")?;
        require_tls(&url)?;
        // The error does not repeat the URL: it contains the password.
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&url).map_err(|_| {
            anyhow!("SMTP_URL: expected smtps://user@host, smtp://user@host?tls=required or smtp://host")
        })?;
        let transport = builder
            // A connection for each e-mail: lettre would reuse one on which the answer to an abandoned e-mail may still
            // arrive, and take it for that to the next.
            .pool_config(PoolConfig::new().max_size(0))
            .timeout(Some(config.smtp_timeout))
            .build();
        Ok(Some(Self { transport, from, timeout: config.smtp_timeout }))
    }

    /// Connects, says EHLO, and signs in if the URL has a user. Sends nothing.
    async fn check(&self) -> anyhow::Result<()> {
        let connected = timeout(self.longest_attempt(), self.transport.test_connection()).await;
        // The text of the error contains that of its source.
        let is_connected = connected.context("the mail server took too long")?.map_err(|error| anyhow!("{error}"))?;
        ensure!(is_connected, "the mail server closed the connection");
        Ok(())
    }

    /// The longest time that [`Relay::send`] takes. An e-mail takes some ten commands, of which seldom more than one is
    /// slow.
    pub(crate) fn longest_attempt(&self) -> Duration {
        self.timeout * 2
    }

    /// Sends a letter.
    pub(crate) async fn send(&self, letter: &Letter, recipient: &Recipient) -> Answer {
        let message = match self.message(letter, recipient) {
            Ok(message) => message,
            Err(error) => return Answer::Refused(shortened(&format!("the e-mail cannot be written: {error:#}"))),
        };
        match timeout(self.longest_attempt(), self.transport.send(message)).await {
            Ok(Ok(_)) => Answer::Accepted,
            // The address needs SMTPUTF8, which the mail server does not have.
            Ok(Err(error)) if error.is_client() && !recipient.email.is_ascii() => {
                Answer::Refused(shortened(&error.to_string()))
            }
            Ok(Err(error)) => answer_of(&error),
            Err(_) => Answer::Unavailable("the mail server took too long".to_owned()),
        }
    }

    /// The e-mail. It is the same at each attempt, with the same id and date, so that a mail server which gets it twice
    /// can drop one.
    fn message(&self, letter: &Letter, recipient: &Recipient) -> anyhow::Result<Message> {
        let text = Text::of(letter)?;
        let address: Address = recipient.email.parse().context("the address is not valid")?;
        let id = format!("<{}.{}@{}>", letter.subject, letter.kind.as_str(), self.from.email.domain());
        let message = Message::builder()
            .message_id(Some(id))
            .date(letter.written_at.into())
            .from(self.from.clone())
            .to(Mailbox::new(Some(recipient.name()), address))
            .subject(&text.title)
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(text.plain.clone(), text.html()?))?;
        Ok(message)
    }
}

/// Checks whether the mail server of `config` answers, without sending anything; `false` if there is none.
pub async fn check_mail_server(config: &MailConfig) -> anyhow::Result<bool> {
    match Relay::new(config)? {
        Some(relay) => relay.check().await.map(|()| true),
        None => Ok(false),
    }
}

/// Fails if a password would be sent without TLS to another machine, or a user has no password.
fn require_tls(url: &str) -> anyhow::Result<()> {
    // An invalid URL is rejected by `from_url`.
    let Some(url) = Url::parse(url).ok().filter(|url| !url.username().is_empty()) else { return Ok(()) };
    ensure!(url.password().is_some(), "SMTP_URL: the user has no password; set SMTP_PASSWORD_FILE");
    let is_encrypted =
        url.scheme() == "smtps" || url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
    let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    ensure!(is_encrypted || is_local, "SMTP_URL: a password needs smtps:// or ?tls=required");
    Ok(())
}

/// Tells mail programs not to answer automatically (RFC 3834 section 5).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

fn answer_of(error: &smtp::Error) -> Answer {
    let detail = shortened(&error.to_string());
    let code = error.status().map(u16::from);
    match code {
        Some(code) if code == CLOSING || AUTHENTICATION.contains(&code) => Answer::Unavailable(detail),
        Some(_) if error.is_permanent() => Answer::Refused(detail),
        Some(_) => Answer::NotNow(detail),
        None => Answer::Unavailable(detail),
    }
}

/// One line of text that fits into its column.
fn shortened(text: &str) -> String {
    crate::domain::one_line(text).chars().take(LONGEST_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Facts, LetterKind};
    use chrono::DateTime;
    use uuid::Uuid;

    fn relay() -> Relay {
        let config = MailConfig {
            smtp_url: Some("smtp://127.0.0.1:1".to_owned()),
            smtp_from: "off <off@off.example.com>".to_owned(),
            ..MailConfig::none()
        };
        Relay::new(&config).unwrap().unwrap()
    }

    fn letter() -> Letter {
        Letter {
            id: 1,
            subject: Uuid::nil(),
            kind: LetterKind::Welcome,
            facts: Facts::default(),
            first_name: "Ada".to_owned(),
            product: None,
            written_at: DateTime::UNIX_EPOCH,
            is_read: false,
        }
    }

    fn recipient(first_name: &str, email: &str) -> Recipient {
        Recipient { first_name: first_name.to_owned(), last_name: "Lovelace".to_owned(), email: email.to_owned() }
    }

    fn head(first_name: &str, email: &str) -> String {
        let message = relay().message(&letter(), &recipient(first_name, email)).unwrap();
        let bytes = String::from_utf8(message.formatted()).unwrap();
        bytes.split("\r\n\r\n").next().unwrap().to_owned()
    }

    #[tokio::test]
    async fn an_email_is_the_same_at_each_attempt() {
        let head = head("Ada", "ada@mail.test");
        for line in [
            "Message-ID: <00000000-0000-0000-0000-000000000000.welcome@off.example.com>",
            "Date: Thu, 01 Jan 1970 00:00:00 +0000",
            "From: off <off@off.example.com>",
            "Subject: Welcome to off",
            "Auto-Submitted: auto-generated",
        ] {
            assert!(head.lines().any(|found| found == line), "{line} is missing in\n{head}");
        }
    }

    #[tokio::test]
    async fn a_name_adds_no_line_to_the_head() {
        let plain = head("Ada", "ada@mail.test").lines().count();
        for name in ["Ada\r\nBcc: eve@mail.test", "Ada\u{2028}Bcc: eve@mail.test", "\", <eve@mail.test>", "Ada\0"] {
            let head = head(name, "ada@mail.test");
            let message = relay().message(&letter(), &recipient(name, "ada@mail.test")).unwrap();
            let to: Vec<String> = message.envelope().to().iter().map(ToString::to_string).collect();
            assert_eq!(to, ["ada@mail.test"]);
            assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
            assert!(head.lines().count() <= plain + 1, "{head}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_not_valid_is_refused() {
        for email in ["a b@mail.test", "ada@mail.test\r\nDATA", "ada", "<ada@mail.test>", "a;b,c@mail.test"] {
            let answer = relay().send(&letter(), &recipient("Ada", email)).await;
            assert!(matches!(answer, Answer::Refused(_)), "{email}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_refuses_connections_is_unavailable() {
        let answer = relay().send(&letter(), &recipient("Ada", "ada@mail.test")).await;
        assert!(matches!(answer, Answer::Unavailable(_)), "{answer:?}");
    }
}
