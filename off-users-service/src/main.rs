//! The users service as a program.

use off_users_service::UsersService;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    off_kit::run::<UsersService>().await
}
