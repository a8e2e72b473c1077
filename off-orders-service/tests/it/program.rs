//! The service as a program of its own.

use off_testkit::{Program, World, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_off-orders-service");

#[tokio::test]
async fn it_serves_and_ends_well_when_asked() {
    let world = World::new().await;
    let settings = [("DATABASE_URL", &*world.database.url), ("NATS_URL", &*world.nats.url), ("HTTP_SERVICE_PORT", "0")];
    let program = Program::start(PROGRAM, &settings).await;
    eventually("it is ready", || async { program.health.get("/readyz").await.status.is_success().then_some(()) }).await;
    assert_eq!(program.http.get("/api/orders").await.status, 200);
    let metrics = program.health.get("/metrics").await;
    assert!(metrics.body.as_str().unwrap().contains("# HELP off_http_request_duration_seconds"), "{metrics:?}");
    assert!(program.terminate().await);
}

#[tokio::test]
async fn a_wrong_setting_is_named_before_any_port_opens_and_no_password_is_shown() {
    let sound = [("DATABASE_URL", "postgres://off@127.0.0.1:1/off"), ("NATS_URL", "nats://127.0.0.1:1")];
    for (name, value, expected) in [
        ("DATABASE_URL", "mysql://off:secret@localhost/off", "DATABASE_URL: expected postgres://"),
        ("NATS_URL", "http://off:secret@[", "NATS_URL: expected nats://"),
        ("OFF_SPEED", "-1", "--speed"),
        ("HTTP_SERVICE_PORT", "70000", "--http-service-port"),
        ("HEALTH_PORT", "70000", "--health-port"),
        ("OFF_LOG", "loud=very", "OFF_LOG"),
    ] {
        let settings = [&sound[..], &[(name, value)]].concat();
        let (code, said) = Program::refuse(PROGRAM, &settings).await;
        assert!(code != Some(0) && said.contains(expected) && !said.contains("secret"), "{name}={value}: {said}");
    }
    let (code, said) = Program::refuse(PROGRAM, &[]).await;
    assert!(code == Some(2) && said.contains("--database-url") && said.contains("--nats-url"), "{said}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_clear_error() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let sound = [("DATABASE_URL", &*world.database.url), ("NATS_URL", &*world.nats.url), ("HTTP_SERVICE_PORT", "0")];
    for setting in ["HTTP_SERVICE_PORT", "HEALTH_PORT"] {
        let (code, said) = Program::refuse(PROGRAM, &[&sound[..], &[(setting, &*port)]].concat()).await;
        assert!(code == Some(1) && said.contains(&format!("{setting} chooses another port")), "{said}");
    }
}

#[tokio::test]
async fn its_health_is_asked_for_with_its_own_settings() {
    let world = World::new().await;
    let settings = [("DATABASE_URL", &*world.database.url), ("NATS_URL", &*world.nats.url), ("HTTP_SERVICE_PORT", "0")];
    let program = Program::start(PROGRAM, &settings).await;
    let base = program.health.base().to_owned();
    let (_, port) = base.rsplit_once(':').unwrap();
    // As a container has it, whose service listens for everyone.
    let told = [("HTTP_SERVICE_HOST", "0.0.0.0"), ("HEALTH_PORT", port)];
    eventually("it is well", || async {
        let (code, _) = Program::run(PROGRAM, &["health"], &told).await;
        (code == Some(0)).then_some(())
    })
    .await;
    sqlx::raw_sql("DROP TABLE _sqlx_migrations").execute(&world.database.pool).await.unwrap();
    eventually("it says what is missing", || async {
        let (code, said) = Program::run(PROGRAM, &["health"], &told).await;
        (code == Some(1) && said.contains("is not ready") && said.contains("off migrate")).then_some(())
    })
    .await;
    program.kill().await;
    let (code, said) = Program::run(PROGRAM, &["health"], &told).await;
    assert!(code == Some(1) && said.contains("nothing listens on 127.0.0.1"), "{said}");
}
