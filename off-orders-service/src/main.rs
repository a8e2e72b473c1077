//! The orders service as a stand-alone program.

use off_orders_service::OrdersService;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    off_kit::run::<OrdersService>().await
}
