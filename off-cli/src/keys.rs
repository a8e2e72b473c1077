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
use std::process::ExitCode;

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
    Rotate,
    /// Removes a key, for example one that was stolen: tokens that it signed are rejected at once.
    Retire {
        /// The id of the key in the list.
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

#[derive(Debug, Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

pub(crate) async fn run(home: &Home, options: &Options) -> anyhow::Result<ExitCode> {
    let api = Api::new(home, &options.api)?;
    let token = api.client_token(home, &options.api, "operator").await?.access_token;
    let (method, path) = match &options.action {
        Action::List => (Method::GET, "/api/keys".to_owned()),
        Action::Rotate => (Method::POST, "/api/keys".to_owned()),
        Action::Retire { kid } => (Method::DELETE, format!("/api/keys/{kid}")),
    };
    let answer = api.send(api.request(method, &path)?.bearer_auth(&token)).await?;
    match &options.action {
        Action::List => print_all(&answer.json::<Keys>().await?.keys),
        Action::Rotate => {
            let key: Key = answer.json().await?;
            print_line!("key {} is published and signs from {}", key.kid, key.signs_from);
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
