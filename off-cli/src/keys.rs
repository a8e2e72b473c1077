//! `off keys`: lists, rotates and retires the keys that sign access tokens.

use crate::{
    api::{self, Api},
    home::Home,
    report::table,
};
use clap::Subcommand;
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
    /// Lists the keys.
    List,
    /// Makes a new key. It is published at once, and signs once every service knows it.
    Rotate {
        /// When it begins to sign. Services fetch the keys every five minutes.
        #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = humantime::parse_duration)]
        after: Duration,
    },
    /// Removes a key, for example one that was stolen: its tokens are rejected within five minutes, when every service
    /// has fetched the keys. If no other key signs then, the next one does, or a new one if that was published less
    /// than ten minutes ago.
    Retire {
        /// The id of the key in the list.
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
}

/// A signing key, as the API returns it.
#[derive(Debug, Deserialize)]
struct Key {
    kid: String,
    state: String,
    signs_from: String,
    signs_until: String,
}

/// A key that was made.
#[derive(Debug, Deserialize)]
struct NewKey {
    kid: String,
}

#[derive(Debug, Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

pub(crate) async fn run(home: &Home, options: &Options) -> anyhow::Result<ExitCode> {
    let api = Api::new(home, &options.api)?;
    let token = api.client_token(home, &options.api, "operator").await?.access_token;
    let (method, path) = match &options.action {
        Action::List => (Method::GET, "/api/keys".to_owned()),
        Action::Rotate { .. } => (Method::POST, "/api/keys".to_owned()),
        Action::Retire { kid } => (Method::DELETE, format!("/api/keys/{kid}")),
    };
    let mut request = api.request(method, &path)?.bearer_auth(&token);
    if let Action::Rotate { after } = &options.action {
        request = request.json(&json!({"signs_after_seconds": after.as_secs()}));
    }
    let answer = api.send(request).await?;
    match &options.action {
        Action::List => print_all(&answer.json::<Keys>().await?.keys),
        Action::Rotate { after } => {
            let key: NewKey = answer.json().await?;
            print_line!("key {} is published and signs in {}", key.kid, humantime::format_duration(*after));
        }
        Action::Retire { kid } => print_line!("key {kid} is retired"),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_all(keys: &[Key]) {
    let mut table = table(&["key", "state", "signs from", "signs until"]);
    for key in keys {
        table.add_row([&key.kid, &key.state, &key.signs_from, &key.signs_until]);
    }
    print_line!("{table}");
}
