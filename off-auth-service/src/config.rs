//! Settings.

use crate::domain::{AttemptLimit, AttemptLimits, SessionLimits};
use chrono::TimeDelta;
use off_kit::password::Hasher;
use std::{path::PathBuf, time::Duration};

/// The settings of the auth service.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The database.
    #[command(flatten)]
    pub db: off_kit::db::Config,
    /// The broker.
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
    /// A file with the master secret of at least 32 characters, the same for all replicas. The keys that seal signing
    /// keys and derive refresh tokens are made from it; another one signs everybody out.
    #[arg(long, env = "AUTH_SECRET_FILE", value_name = "FILE")]
    pub auth_secret_file: PathBuf,
    /// How many wrong passwords in a row an account may get from one network (an IPv4 address, the /56 of an IPv6
    /// address), and ten times as many from all networks together.
    #[arg(long, env = "AUTH_ATTEMPTS", default_value_t = 10, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub auth_attempts: u32,
    /// After how long one more wrong password is allowed from a network, and after a tenth of that from all together.
    #[arg(long, env = "AUTH_ATTEMPT_INTERVAL", default_value = "30s", value_name = "DURATION",
        value_parser = parse_duration)]
    pub auth_attempt_interval: Duration,
    /// A session ends when it was not refreshed for this long.
    #[arg(long, env = "AUTH_SESSION_IDLE", default_value = "30d", value_name = "DURATION", value_parser = parse_duration)]
    pub auth_session_idle: Duration,
    /// A session ends this long after the sign-in in any case.
    #[arg(long, env = "AUTH_SESSION_MAX", default_value = "180d", value_name = "DURATION", value_parser = parse_duration)]
    pub auth_session_max: Duration,
    /// How long a refresh may be repeated with the same token, after an answer was lost or by another tab.
    #[arg(long, env = "AUTH_REFRESH_GRACE", default_value = "60s", value_name = "DURATION",
        value_parser = parse_duration)]
    pub auth_refresh_grace: Duration,
    /// Hashes passwords. Tests set another length of its queue.
    #[arg(skip)]
    pub hasher: Hasher,
}

/// Parses a duration from a second to ten years.
fn parse_duration(text: &str) -> Result<Duration, String> {
    const BOUNDS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(10 * 365 * 24);
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if BOUNDS.contains(&duration) { Ok(duration) } else { Err("expected a duration from 1s to 10y".to_owned()) }
}

impl Config {
    /// The default limits, with the master secret in a file.
    pub fn new(db: off_kit::db::Config, bus: off_kit::bus::Config, auth_secret_file: PathBuf) -> Self {
        Self {
            db,
            bus,
            auth_secret_file,
            auth_attempts: 10,
            auth_attempt_interval: Duration::from_secs(30),
            auth_session_idle: Duration::from_hours(30 * 24),
            auth_session_max: Duration::from_hours(180 * 24),
            auth_refresh_grace: Duration::from_mins(1),
            hasher: Hasher::new(),
        }
    }

    pub(crate) fn attempt_limits(&self) -> AttemptLimits {
        AttemptLimits::new(AttemptLimit { burst: self.auth_attempts, interval: delta(self.auth_attempt_interval) })
    }

    pub(crate) fn session_limits(&self) -> SessionLimits {
        SessionLimits {
            idle: delta(self.auth_session_idle),
            max: delta(self.auth_session_max),
            grace: delta(self.auth_refresh_grace),
        }
    }
}

fn delta(duration: Duration) -> TimeDelta {
    // `parse_duration` bounds it.
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
