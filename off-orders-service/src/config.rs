//! Its settings.

use crate::deadlines::TimeLimits;
use off_kit::Clock;
use std::time::Duration;

/// The settings of the orders service.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    #[command(flatten)]
    pub db: off_kit::db::Config,
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
    /// The longest time a supplier takes, in the simulated world: an order that is pending for longer is overdue, and is
    /// announced again. The same as that of the notifications service.
    #[arg(long, env = "SUPPLIER_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub supplier_delay_max: Duration,
    /// The longest time a delivery takes; the same for an order that is shipped.
    #[arg(long, env = "DELIVERY_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub delivery_delay_max: Duration,
}

impl Config {
    /// The settings where a supplier and a delivery take at most `delay` each.
    pub fn new(db: off_kit::db::Config, bus: off_kit::bus::Config, delay: Duration) -> Self {
        Self { db, bus, supplier_delay_max: delay, delivery_delay_max: delay }
    }

    pub(crate) fn time_limits(&self, clock: &Clock) -> TimeLimits {
        TimeLimits::new(clock.real_wait(self.supplier_delay_max), clock.real_wait(self.delivery_delay_max))
    }
}
