//! The program `off`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    off_cli::run().await
}
