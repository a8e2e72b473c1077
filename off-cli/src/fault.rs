//! `off fault`: lists the failure switches, and switches failures on and off.

use crate::{
    api::{self, Api},
    home::Home,
    report::table,
};
use anyhow::Context;
use clap::{
    Subcommand,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use off_events::faults::{Fault, FaultKind};
use off_kit::print_line;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use std::{process::ExitCode, time::Duration};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    api: api::Options,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists all switches: which alert reacts, and whether it is on.
    List,
    /// Switches a failure on, until it ends by itself. Services notice it within a second or two.
    Set(Set),
    /// Switches a failure off, or all.
    Clear {
        /// The switch; without it, all.
        #[arg(value_parser = kinds())]
        kind: Option<FaultKind>,
    },
}

#[derive(Debug, clap::Args)]
struct Set {
    /// The switch.
    #[arg(value_parser = kinds())]
    kind: FaultKind,
    /// The share of orders, messages or reports that it hits, above 0 and at most 1.
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    share: f64,
    /// How much, in the unit of the switch.
    #[arg(long, value_name = "N")]
    amount: Option<u32>,
    /// The only consumer that it hits, for switches that are about consumers.
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Another seed hits others.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// When it ends by itself, at most a day.
    #[arg(long = "for", default_value = "5m", value_name = "DURATION", value_parser = humantime::parse_duration)]
    time: Duration,
}

/// The switches with what each does, for `--help`.
fn kinds() -> impl TypedValueParser<Value = FaultKind> {
    let values = FaultKind::ALL.map(|kind| {
        let amount = kind.amount().map(|amount| format!(" Amount: {}, default {}.", amount.unit, amount.default));
        PossibleValue::new(kind.as_str()).help(format!("{}{}", kind.about(), amount.unwrap_or_default()))
    });
    PossibleValuesParser::new(values).try_map(|name| name.parse::<FaultKind>())
}

/// The switches, as the API returns them.
#[derive(Debug, Deserialize)]
struct Switches {
    are_allowed: bool,
    switches: Vec<Switch>,
}

#[derive(Debug, Deserialize)]
struct Switch {
    kind: FaultKind,
    alert: String,
    fault: Option<Fault>,
}

pub(crate) async fn run(home: &Home, options: &Options) -> anyhow::Result<ExitCode> {
    let api = Api::new(home, &options.api)?;
    let token = api.client_token(home, &options.api, "operator").await?.access_token;
    let request = |method, path: &str| anyhow::Ok(api.request(method, path)?.bearer_auth(&token));
    match &options.action {
        Action::List => {
            let switches: Switches = api.send(request(Method::GET, "/api/operator/faults")?).await?.json().await?;
            print_all(&switches);
        }
        Action::Set(set) => {
            let body = json!({"share": set.share, "amount": set.amount, "consumer": set.consumer, "seed": set.seed,
                "seconds": set.time.as_secs()});
            let request = request(Method::PUT, &format!("/api/operator/faults/{}", set.kind))?.json(&body);
            let fault: Fault = api.send(request).await?.json().await.context("the answer is not readable")?;
            print_line!("{} is on until {} UTC", fault.kind, fault.until.format("%Y-%m-%d %H:%M:%S"));
        }
        Action::Clear { kind } => {
            for kind in FaultKind::ALL.into_iter().filter(|one| kind.is_none_or(|kind| kind == *one)) {
                api.send(request(Method::DELETE, &format!("/api/operator/faults/{kind}"))?).await?;
            }
            match kind {
                Some(kind) => print_line!("{kind} is off"),
                None => print_line!("all failure switches are off"),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_all(list: &Switches) {
    let mut table = table(&["switch", "alert", "state"]);
    for switch in &list.switches {
        let state = switch.fault.as_ref().map_or_else(
            || "off".to_owned(),
            |fault| format!("on for {}, until {} UTC", fault.describe(), fault.until.format("%H:%M:%S")),
        );
        table.add_row([switch.kind.to_string(), switch.alert.clone(), state]);
    }
    print_line!("{table}");
    if !list.are_allowed {
        print_line!("\nfailure switches are not allowed here: ALLOW_FAULTS is not set");
    }
}
