//! The orders service as a program of its own.

use off_orders_service::OrdersService;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    off_kit::run::<OrdersService>().await
}
