//! Its settings.

use crate::domain::Delay;
use anyhow::Context;
use off_events::streams;
use std::time::Duration;

/// The settings of the notifications service.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
    /// The shortest time a supplier takes, in the simulated world.
    #[arg(long, env = "SUPPLIER_DELAY_MIN", default_value = "1m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub supplier_delay_min: Duration,
    /// The longest time a supplier takes.
    #[arg(long, env = "SUPPLIER_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub supplier_delay_max: Duration,
    /// The shortest time a delivery takes.
    #[arg(long, env = "DELIVERY_DELAY_MIN", default_value = "1m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub delivery_delay_min: Duration,
    /// The longest time a delivery takes.
    #[arg(long, env = "DELIVERY_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub delivery_delay_max: Duration,
    /// With the same seed an order of the same id waits the same time.
    #[arg(long, env = "OFF_SEED", default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

impl Config {
    pub(crate) fn supplier(&self, speed: f64) -> anyhow::Result<Delay> {
        delay(self.supplier_delay_min, self.supplier_delay_max, speed).context("SUPPLIER_DELAY_MIN, SUPPLIER_DELAY_MAX")
    }

    pub(crate) fn delivery(&self, speed: f64) -> anyhow::Result<Delay> {
        delay(self.delivery_delay_min, self.delivery_delay_max, speed).context("DELIVERY_DELAY_MIN, DELIVERY_DELAY_MAX")
    }
}

fn delay(shortest: Duration, longest: Duration, speed: f64) -> anyhow::Result<Delay> {
    anyhow::ensure!(shortest <= longest, "the shortest time is longer than the longest");
    anyhow::ensure!(
        longest.as_secs_f64() / speed <= streams::LONGEST_WAIT.as_secs_f64(),
        "a wait longer than {} would outlive the stream that keeps it",
        humantime::format_duration(streams::LONGEST_WAIT)
    );
    Ok(Delay { shortest, longest })
}
