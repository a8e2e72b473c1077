//! The service as a program.

use off_testkit::{Program, World};

#[tokio::test]
async fn the_program_starts_and_exits_successfully_on_sigterm() {
    let world = World::new().await;
    let settings = [("DATABASE_URL", &*world.database.url), ("NATS_URL", &*world.nats.url), ("HTTP_SERVICE_PORT", "0")];
    let program = Program::start(env!("CARGO_BIN_EXE_off-operator-service"), &settings).await;
    program.health.wait_until_ready().await;
    assert!(program.terminate().await);
    world.end().await;
}
