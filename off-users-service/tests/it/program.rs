//! The service as a program.

use off_testkit::{Program, World, eventually};

#[tokio::test]
async fn the_program_starts_and_exits_successfully_on_sigterm() {
    let world = World::new().await;
    let settings = [("DATABASE_URL", &*world.database.url), ("NATS_URL", &*world.nats.url), ("HTTP_SERVICE_PORT", "0")];
    let program = Program::start(env!("CARGO_BIN_EXE_off-users-service"), &settings).await;
    eventually("the service is ready", || async {
        program.health.get("/readyz").await.status.is_success().then_some(())
    })
    .await;
    assert!(program.terminate().await);
}
