//! The service as a program of its own.

use off_testkit::{Program, World, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_off-orders-service");

#[tokio::test]
async fn it_serves_and_ends_well_when_asked() {
    let world = World::new().await;
    let settings = [("DATABASE_URL", &*world.database.url), ("NATS_URL", &*world.nats.url), ("HTTP_SERVICE_PORT", "0")];
    let program = Program::start(PROGRAM, &settings).await;
    eventually("it is ready", || async { program.http.get("/readyz").await.status.is_success().then_some(()) }).await;
    let metrics = program.http.get("/metrics").await;
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
    let settings =
        [("DATABASE_URL", &*world.database.url), ("NATS_URL", &*world.nats.url), ("HTTP_SERVICE_PORT", &*port)];
    let (code, said) = Program::refuse(PROGRAM, &settings).await;
    assert!(code == Some(1) && said.contains("HTTP_SERVICE_PORT chooses another port"), "{said}");
}
