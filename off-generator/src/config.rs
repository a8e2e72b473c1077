//! Settings.

use crate::domain::{Income, Kind, Pace, Weights};
use off_kit::auth::Credentials;
use std::time::Duration;
use url::Url;

/// The settings of the generator.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The address of NATS.
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
    /// Its credentials as the client `generator`, which may simulate households.
    #[command(flatten)]
    pub credentials: Credentials,
    /// Base URL of the users service; usually the gateway.
    #[arg(long, env = "USERS_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub users_url: Url,
    /// Base URL of the orders service; usually the gateway.
    #[arg(long, env = "ORDERS_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub orders_url: Url,
    /// Base URL of the billing service; usually the gateway.
    #[arg(long, env = "BILLING_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub billing_url: Url,
    /// Simulated seconds between two events; an alternative to the rate.
    #[arg(long, env = "GENERATOR_RUN_PERIOD", value_name = "SECONDS", conflicts_with = "rate",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub run_period: Option<u32>,
    /// Events per simulated second.
    #[arg(long, env = "GENERATOR_RATE", default_value_t = 1.0, value_name = "N", value_parser = parse_rate)]
    pub rate: f64,
    /// Weight of registrations, relative to the other weights.
    #[arg(long, env = "GENERATOR_REGISTRATION_WEIGHT", default_value_t = 1, value_name = "N")]
    pub registration_weight: u32,
    /// Weight of orders, without the orders of devices that are low.
    #[arg(long, env = "GENERATOR_ORDER_WEIGHT", default_value_t = 25, value_name = "N")]
    pub order_weight: u32,
    /// Weight of consumption.
    #[arg(long, env = "GENERATOR_CONSUMPTION_WEIGHT", default_value_t = 74, value_name = "N")]
    pub consumption_weight: u32,
    /// Households that register at the start, one after another, concurrently with other events.
    #[arg(long, env = "GENERATOR_HOUSEHOLDS", default_value_t = 100, value_name = "N")]
    pub households: u32,
    /// Simulated time between two pay days of a household. Its pay is about what it is expected to spend meanwhile,
    /// which follows from the rate, the weights and the number of households. A deposit is at most 10,000 EUR.
    #[arg(long, env = "GENERATOR_PAY_INTERVAL", default_value = "1h", value_name = "DURATION",
        value_parser = parse_interval)]
    pub pay_interval: Duration,
    /// A factor on the pay and the welcome deposits of all households. With 0 they get no money, so all their orders
    /// are refused.
    #[arg(long, env = "GENERATOR_INCOME", default_value_t = 1.0, value_name = "N", value_parser = parse_income)]
    pub income: f64,
    /// Maximum time until a supplier ships an order. Must equal that of the notifications service, because only
    /// products of delivered orders are consumed.
    #[arg(long, env = "SUPPLIER_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub supplier_delay_max: Duration,
    /// Maximum time of a delivery. Must equal that of the notifications service.
    #[arg(long, env = "DELIVERY_DELAY_MAX", default_value = "4m", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub delivery_delay_max: Duration,
    /// Seed of all random choices. The same seed and speed generate the same sequence of events.
    #[arg(long, env = "OFF_SEED", default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

impl Config {
    /// The frequency of events.
    pub(crate) fn pace(&self) -> Pace {
        self.run_period.map_or(Pace::Rate(self.rate), |period| Pace::Period(period.into()))
    }

    /// The relative frequency of each kind of event.
    pub(crate) fn weights(&self) -> Weights {
        Weights::new([
            (Kind::Registration, self.registration_weight),
            (Kind::Order, self.order_weight),
            (Kind::Consumption, self.consumption_weight),
        ])
    }

    /// What households get.
    pub(crate) fn income(&self) -> Income {
        Income::new(self.seed, self.pay_interval, self.income, self.pace(), &self.weights())
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=100_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0 to 100000".to_owned()),
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval >= Duration::from_secs(1) { Ok(interval) } else { Err("at least 1s".to_owned()) }
}

fn parse_income(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (0.0..=1000.0).contains(&factor) => Ok(factor),
        _ => Err("expected a number from 0 to 1000".to_owned()),
    }
}
