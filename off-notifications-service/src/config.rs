//! Settings.

use crate::domain::Delay;
use anyhow::Context;
use off_events::streams;
use std::time::Duration;

/// The settings of the notifications service.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The address of NATS.
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
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

fn delay(min: Duration, max: Duration, speed: f64) -> anyhow::Result<Delay> {
    anyhow::ensure!(min <= max, "the minimum is longer than the maximum");
    anyhow::ensure!(
        max.as_secs_f64() / speed <= streams::LONGEST_WAIT.as_secs_f64(),
        "a wait of more than {} in real time would exceed the retention of its stream",
        humantime::format_duration(streams::LONGEST_WAIT)
    );
    Ok(Delay { min, max })
}
