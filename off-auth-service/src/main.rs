//! The auth service as a program.

use off_auth_service::AuthService;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: off_kit::Allocator = off_kit::Allocator;

#[tokio::main]
async fn main() -> ExitCode {
    off_kit::run::<AuthService>().await
}
