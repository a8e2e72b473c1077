//! The operator service as a program.

use off_operator_service::OperatorService;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: off_kit::Allocator = off_kit::Allocator;

#[tokio::main]
async fn main() -> ExitCode {
    off_kit::run::<OperatorService>().await
}
