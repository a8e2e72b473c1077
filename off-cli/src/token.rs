//! `off token`: prints an access token, for curl.

use crate::{
    api::{self, Api},
    home::Home,
    password,
};
use off_kit::print_line;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    owner: TokenOwner,
    #[command(flatten)]
    api: api::Options,
}

/// Whose token it is.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct TokenOwner {
    /// Signs in as this person; reads the password from standard input.
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
    /// The token of a client: `generator`, which simulates households, or `operator`, which reads all data.
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
}

pub(crate) async fn run(home: &Home, options: &Options) -> anyhow::Result<ExitCode> {
    let api = Api::new(home, &options.api)?;
    let TokenOwner { user, client } = &options.owner;
    let token = match user {
        Some(email) => api.sign_in(email, &password::ask(&format!("password of {email}"))?).await?,
        None => api.client_token(home, &options.api, client.as_deref().unwrap_or_default()).await?,
    };
    print_line!("{}", token.access_token);
    Ok(ExitCode::SUCCESS)
}
