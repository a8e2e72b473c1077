//! Its settings.

use crate::domain::{Kind, Pace, Weights};
use std::time::Duration;
use url::Url;

/// The settings of the generator.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
    /// Where the users service answers.
    #[arg(long, env = "USERS_URL", default_value = "http://127.0.0.1:8081", value_name = "URL")]
    pub users_url: Url,
    /// Where the orders service answers.
    #[arg(long, env = "ORDERS_URL", default_value = "http://127.0.0.1:8082", value_name = "URL")]
    pub orders_url: Url,
    /// Seconds of the simulated world between two events; instead of a rate.
    #[arg(long, env = "GENERATOR_RUN_PERIOD", value_name = "SECONDS", conflicts_with = "rate",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub run_period: Option<u32>,
    /// Events in a second of the simulated world.
    #[arg(long, env = "GENERATOR_RATE", default_value_t = 1.0, value_name = "N", value_parser = parse_rate)]
    pub rate: f64,
    /// How often people register, beside the other weights.
    #[arg(long, env = "GENERATOR_REGISTRATION_WEIGHT", default_value_t = 1, value_name = "N")]
    pub registration_weight: u32,
    /// How often someone orders just so.
    #[arg(long, env = "GENERATOR_ORDER_WEIGHT", default_value_t = 25, value_name = "N")]
    pub order_weight: u32,
    /// How often something is eaten.
    #[arg(long, env = "GENERATOR_CONSUMPTION_WEIGHT", default_value_t = 74, value_name = "N")]
    pub consumption_weight: u32,
    /// Households that register at the start, one after the other, beside everything else.
    #[arg(long, env = "GENERATOR_HOUSEHOLDS", default_value_t = 100, value_name = "N")]
    pub households: u32,
    /// The longest time a supplier takes, as the notifications service has it: what is eaten was ordered long enough ago.
    #[arg(long, env = "SUPPLIER_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub supplier_delay_max: Duration,
    /// The longest time a delivery takes, as the notifications service has it.
    #[arg(long, env = "DELIVERY_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub delivery_delay_max: Duration,
    /// With the same seed and speed the same people register, order and eat the same things in the same order.
    #[arg(long, env = "OFF_SEED", default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

impl Config {
    pub(crate) fn pace(&self) -> Pace {
        self.run_period.map_or(Pace::Rate(self.rate), |period| Pace::Period(period.into()))
    }

    pub(crate) fn weights(&self) -> Weights {
        Weights::new([
            (Kind::Registration, self.registration_weight),
            (Kind::Order, self.order_weight),
            (Kind::Consumption, self.consumption_weight),
        ])
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=100_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0 to 100000".to_owned()),
    }
}
