//! The service as a program.

use crate::secret_file;
use off_testkit::{Program, World};

#[tokio::test]
async fn the_program_starts_and_exits_successfully_on_sigterm() {
    let (world, secret) = (World::new().await, secret_file("a master secret of at least 32 characters"));
    let settings = [
        ("DATABASE_URL", &*world.database.url),
        ("NATS_URL", &*world.nats.url),
        ("HTTP_SERVICE_PORT", "0"),
        ("AUTH_SECRET_FILE", secret.path().to_str().unwrap()),
    ];
    let program = Program::start(env!("CARGO_BIN_EXE_off-auth-service"), &settings).await;
    program.health.wait_until_ready().await;
    assert!(program.terminate().await);
    world.end().await;
}
