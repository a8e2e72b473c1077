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
    /// Signs in as this person; reads the password from standard input.
    #[arg(long = "user", value_name = "EMAIL", required_unless_present = "client", conflicts_with = "client")]
    user: Option<String>,
    /// The token of a client: `generator`, which simulates households, or `operator`, which reads everything.
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    #[command(flatten)]
    api: api::Options,
}

pub(crate) async fn run(home: &Home, options: &Options) -> anyhow::Result<ExitCode> {
    let api = Api::new(home, &options.api)?;
    let token = match (&options.user, &options.client) {
        (Some(email), _) => api.sign_in(email, &password::ask(&format!("password of {email}"))?).await?,
        (None, Some(client)) => api.client_token(home, &options.api, client).await?,
        (None, None) => anyhow::bail!("set --user or --client"),
    };
    print_line!("{}", token.access_token);
    Ok(ExitCode::SUCCESS)
}
