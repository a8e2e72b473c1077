//! The users service as a program of its own.

use off_users_service::UsersService;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    off_kit::run::<UsersService>().await
}
