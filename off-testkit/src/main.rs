//! Runs a command beside a Postgres that many tests share, each in a database of its own.
//!
//! ```sh
//! cargo run -p off-testkit -- cargo nextest run
//! ```
//!
//! Tests that are run without it start a Postgres each, which takes longer.

use anyhow::{Context, bail};
use std::{env, process::ExitCode};
use tokio::process::Command;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        bail!("usage: off-testkit COMMAND [ARGUMENT …]");
    };
    let folder = tempfile::Builder::new().prefix("off-tests-").tempdir()?;
    let mut postgres = off_testkit::start_postgres(folder.path()).await?;
    let status = Command::new(&program)
        .args(arguments)
        .env(off_testkit::SHARED_POSTGRES, &postgres.url)
        // What the query macros ask for, see scripts/prepare-queries; the tests do not look at it.
        .env("DATABASE_URL", &postgres.url)
        .status()
        .await
        .with_context(|| format!("{} does not run", program.display()));
    postgres.stop().await?;
    Ok(status?.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
