//! Runs a command with a Postgres that its tests share. Each test uses a separate database in it.
//!
//! ```sh
//! cargo run -p off-testkit -- cargo nextest run
//! ```
//!
//! Without this program, each test starts its own Postgres, which takes longer.

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
        // For the query macros, see scripts/prepare-queries; the tests do not use it.
        .env("DATABASE_URL", &postgres.url)
        .status()
        .await
        .with_context(|| format!("cannot run {}", program.display()));
    postgres.stop().await?;
    Ok(status?.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
