//! Settings.

use crate::domain::Delay;
use anyhow::Context;
use off_events::streams;
use off_kit::{jobs::Limits, secret};
use std::{fmt, path::PathBuf, time::Duration};

/// The settings of the notifications service.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The database.
    #[command(flatten)]
    pub db: off_kit::db::Config,
    /// The address of NATS.
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
    /// How letters are sent by e-mail.
    #[command(flatten)]
    pub mail: MailConfig,
    /// Minimum time until a supplier ships an order, in simulated time.
    #[arg(long, env = "SUPPLIER_DELAY_MIN", default_value = "1m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub supplier_delay_min: Duration,
    /// Maximum time until a supplier ships an order, in simulated time.
    #[arg(long, env = "SUPPLIER_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub supplier_delay_max: Duration,
    /// Minimum time of a delivery, in simulated time.
    #[arg(long, env = "DELIVERY_DELAY_MIN", default_value = "1m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub delivery_delay_min: Duration,
    /// Maximum time of a delivery, in simulated time.
    #[arg(long, env = "DELIVERY_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub delivery_delay_max: Duration,
    /// Seed of the waits: with the same seed, an order with the same id waits for the same time.
    #[arg(long, env = "OFF_SEED", default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

impl Config {
    /// The supplier's delay. Fails if its limits are invalid at this `speed`, in simulated seconds per second.
    pub(crate) fn supplier(&self, speed: f64) -> anyhow::Result<Delay> {
        delay(self.supplier_delay_min, self.supplier_delay_max, speed).context("SUPPLIER_DELAY_MIN, SUPPLIER_DELAY_MAX")
    }

    /// The delay of the delivery firm. Fails like [`Config::supplier`].
    pub(crate) fn delivery(&self, speed: f64) -> anyhow::Result<Delay> {
        delay(self.delivery_delay_min, self.delivery_delay_max, speed).context("DELIVERY_DELAY_MIN, DELIVERY_DELAY_MAX")
    }
}

/// The mail server, and how fast it gets e-mails.
#[derive(Clone, clap::Args)]
#[group(skip)]
pub struct MailConfig {
    /// The mail server: smtps://user@host for TLS, smtp://user@host?tls=required for STARTTLS, smtp://host for neither.
    /// Without it, letters are stored and not sent.
    #[arg(long, env = "SMTP_URL", value_name = "URL", hide_env_values = true)]
    pub smtp_url: Option<String>,
    /// A file with the password, for a URL that contains only the user.
    #[arg(long, env = "SMTP_PASSWORD_FILE", value_name = "FILE")]
    pub smtp_password_file: Option<PathBuf>,
    /// The sender, like "off <off@example.com>". The mail server must accept it.
    #[arg(long, env = "SMTP_FROM", value_name = "MAILBOX", default_value = "off <off@localhost>")]
    pub smtp_from: String,
    /// Connections to the mail server.
    #[arg(long, env = "SMTP_CONNECTIONS", default_value_t = 4, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub smtp_connections: u32,
    /// E-mails to one domain that are sent at a time.
    #[arg(long, env = "SMTP_PER_DOMAIN", default_value_t = 2, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub smtp_per_domain: u32,
    /// E-mails per second.
    #[arg(long, env = "SMTP_RATE", default_value_t = 10, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub smtp_rate: u32,
    /// E-mails to one person in an hour; letters beyond that are not sent.
    #[arg(long, env = "SMTP_PER_PERSON", default_value_t = 60, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub smtp_per_person: u32,
    /// How long the mail server may take to answer a command. RFC 5321 section 4.5.3.2 asks for 2 to 10 minutes.
    #[arg(long, env = "SMTP_TIMEOUT", default_value = "5m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub smtp_timeout: Duration,
}

impl MailConfig {
    /// No mail server.
    pub fn none() -> Self {
        Self {
            smtp_url: None,
            smtp_password_file: None,
            smtp_from: "off <off@localhost>".to_owned(),
            smtp_connections: 4,
            smtp_per_domain: 2,
            smtp_rate: 10,
            smtp_per_person: 60,
            smtp_timeout: Duration::from_mins(5),
        }
    }

    /// The URL with the password. An empty one is none: a config map cannot leave a variable out.
    pub(crate) fn url(&self) -> anyhow::Result<Option<String>> {
        let Some(url) = self.smtp_url.as_deref().filter(|url| !url.is_empty()) else { return Ok(None) };
        secret::fill_in(url, self.smtp_password_file.as_deref()).context("SMTP_URL").map(Some)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            at_once: self.smtp_connections as usize,
            per_destination: self.smtp_per_domain as usize,
            per_second: self.smtp_rate as usize,
        }
    }
}

/// Shows `…` in place of the password.
impl fmt::Debug for MailConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailConfig")
            .field("smtp_url", &self.smtp_url.as_deref().map(secret::redact))
            .field("smtp_from", &self.smtp_from)
            .finish_non_exhaustive()
    }
}

fn delay(min: Duration, max: Duration, speed: f64) -> anyhow::Result<Delay> {
    anyhow::ensure!(min <= max, "the minimum is longer than the maximum");
    anyhow::ensure!(
        max.as_secs_f64() / speed <= streams::LONGEST_WAIT.as_secs_f64(),
        "a wait of more than {} in real time would exceed the retention of its stream",
        humantime::format_duration(streams::LONGEST_WAIT)
    );
    Ok(Delay { min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_url_is_no_mail_server() {
        let config = |url: &str| MailConfig { smtp_url: Some(url.to_owned()), ..MailConfig::none() };
        assert_eq!(config("").url().unwrap(), None);
        assert_eq!(config("smtp://mail.test").url().unwrap().as_deref(), Some("smtp://mail.test"));
    }
}
