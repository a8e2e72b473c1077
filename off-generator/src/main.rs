//! The generator as a program.

use off_generator::Generator;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    off_kit::run::<Generator>().await
}
