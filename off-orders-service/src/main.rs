//! The orders service as a stand-alone program.

use off_orders_service::OrdersService;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: off_kit::Allocator = off_kit::Allocator;

#[tokio::main]
async fn main() -> ExitCode {
    off_kit::run::<OrdersService>().await
}
