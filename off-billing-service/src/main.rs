//! The billing service as a program.

use off_billing_service::BillingService;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: off_kit::Allocator = off_kit::Allocator;

#[tokio::main]
async fn main() -> ExitCode {
    off_kit::run::<BillingService>().await
}
