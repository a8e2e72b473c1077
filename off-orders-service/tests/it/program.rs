//! The service as a stand-alone program.

use off_testkit::{Program, World, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_off-orders-service");

#[tokio::test]
async fn the_program_starts_and_exits_successfully_on_sigterm() {
    let world = World::new().await;
    let settings = [("DATABASE_URL", &*world.database.url), ("NATS_URL", &*world.nats.url), ("HTTP_SERVICE_PORT", "0")];
    let program = Program::start(PROGRAM, &settings).await;
    program.health.wait_until_ready().await;
    assert_eq!(program.http.get("/api/orders").await.status, 200);
    let metrics = program.health.get("/metrics").await;
    assert!(metrics.body.as_str().unwrap().contains("# HELP off_http_request_duration_seconds"), "{metrics:?}");
    assert!(program.terminate().await);
    world.end().await;
}

#[tokio::test]
async fn an_invalid_setting_is_named_before_any_port_opens_and_no_password_is_shown() {
    let valid = [("DATABASE_URL", "postgres://off@127.0.0.1:1/off"), ("NATS_URL", "nats://127.0.0.1:1")];
    for (name, value, expected) in [
        ("DATABASE_URL", "mysql://off:secret@localhost/off", "DATABASE_URL: expected postgres://"),
        ("NATS_URL", "http://off:secret@[", "NATS_URL: expected nats://"),
        ("OFF_SPEED", "-1", "--speed"),
        ("HTTP_SERVICE_PORT", "70000", "--http-service-port"),
        ("HEALTH_PORT", "70000", "--health-port"),
        ("OFF_LOG", "loud=very", "OFF_LOG"),
    ] {
        let settings = [&valid[..], &[(name, value)]].concat();
        let (code, stderr) = Program::refuse(PROGRAM, &settings).await;
        assert!(code != Some(0) && stderr.contains(expected) && !stderr.contains("secret"), "{name}={value}: {stderr}");
    }
    let (code, stderr) = Program::refuse(PROGRAM, &[]).await;
    assert!(code == Some(2) && stderr.contains("--database-url") && stderr.contains("--nats-url"), "{stderr}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_clear_error() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let valid = [("DATABASE_URL", &*world.database.url), ("NATS_URL", &*world.nats.url), ("HTTP_SERVICE_PORT", "0")];
    for setting in ["HTTP_SERVICE_PORT", "HEALTH_PORT"] {
        let (code, stderr) = Program::refuse(PROGRAM, &[&valid[..], &[(setting, &*port)]].concat()).await;
        assert!(code == Some(1) && stderr.contains(&format!("Choose another port with {setting}")), "{stderr}");
    }
    world.end().await;
}

#[tokio::test]
async fn the_health_command_uses_the_settings_of_the_service() {
    let world = World::new().await;
    let settings = [("DATABASE_URL", &*world.database.url), ("NATS_URL", &*world.nats.url), ("HTTP_SERVICE_PORT", "0")];
    let program = Program::start(PROGRAM, &settings).await;
    let base = program.health.base().to_owned();
    let (_, port) = base.rsplit_once(':').unwrap();
    // As in a container, where the service listens on all interfaces.
    let health_settings = [("HTTP_SERVICE_HOST", "0.0.0.0"), ("HEALTH_PORT", port)];
    eventually("the service is ready", || async {
        let (code, _) = Program::run(PROGRAM, &["health"], &health_settings).await;
        (code == Some(0)).then_some(())
    })
    .await;
    sqlx::raw_sql("DROP TABLE _sqlx_migrations").execute(&world.database.pool).await.unwrap();
    eventually("the missing migrations are reported", || async {
        let (code, stderr) = Program::run(PROGRAM, &["health"], &health_settings).await;
        (code == Some(1) && stderr.contains("is not ready") && stderr.contains("off migrate")).then_some(())
    })
    .await;
    program.kill().await;
    let (code, stderr) = Program::run(PROGRAM, &["health"], &health_settings).await;
    assert!(code == Some(1) && stderr.contains("nothing listens on 127.0.0.1"), "{stderr}");
    world.end().await;
}
