//! The service as a program.

use off_testkit::{Program, TestNats};

#[tokio::test]
async fn the_program_starts_and_exits_successfully_on_sigterm() {
    let nats = TestNats::new().await;
    let settings = [("NATS_URL", &*nats.url), ("HTTP_SERVICE_PORT", "0"), ("SUPPLIER_DELAY_MIN", "0s")];
    let program = Program::start(env!("CARGO_BIN_EXE_off-notifications-service"), &settings).await;
    program.health.wait_until_ready().await;
    assert!(program.terminate().await);
    nats.end().await;
}
