//! The generator as a program.

use crate::TestSystem;
use off_testkit::Program;

#[tokio::test]
async fn the_program_starts_and_exits_successfully_on_sigterm() {
    let system = TestSystem::new().await;
    let settings = [
        ("NATS_URL", &*system.world.nats.url),
        ("USERS_URL", system.users.http.base()),
        ("ORDERS_URL", system.orders.http.base()),
        ("HTTP_SERVICE_PORT", "0"),
        ("GENERATOR_HOUSEHOLDS", "2"),
    ];
    let program = Program::start(env!("CARGO_BIN_EXE_off-generator"), &settings).await;
    system.wait_until_registered(2).await;
    assert!(program.terminate().await);
    system.end().await;
}
