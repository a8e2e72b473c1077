//! The settings of the orders service.

use crate::deadlines::TimeLimits;
use off_kit::Clock;
use std::time::Duration;

/// Command line options and environment variables of the orders service.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The database.
    #[command(flatten)]
    pub db: off_kit::db::Config,
    /// The broker.
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
    /// The longest time a supplier takes, in simulated time. The deadline of a paid order is this after it was placed,
    /// plus 20 s: 10 s for the payment and 10 s for the messages. Use the same value as for the notifications service.
    #[arg(long, env = "SUPPLIER_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub supplier_delay_max: Duration,
    /// The longest time a delivery takes, in simulated time. The deadline of a shipped order is this after that of
    /// the paid order, plus 10 s. Use the same value as for the notifications service.
    #[arg(long, env = "DELIVERY_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub delivery_delay_max: Duration,
}

impl Config {
    /// Settings with which a supplier and a delivery take at most `delay` each, in simulated time.
    pub fn new(db: off_kit::db::Config, bus: off_kit::bus::Config, delay: Duration) -> Self {
        Self { db, bus, supplier_delay_max: delay, delivery_delay_max: delay }
    }

    /// The time limits of each status, in real time.
    pub(crate) fn time_limits(&self, clock: &Clock) -> TimeLimits {
        TimeLimits::new(clock, self.supplier_delay_max, self.delivery_delay_max)
    }
}
