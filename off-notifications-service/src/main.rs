//! The notifications service as a program.

use off_notifications_service::NotificationsService;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    off_kit::run::<NotificationsService>().await
}
