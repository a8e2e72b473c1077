//! The gateway as a program.

use crate::upstream::Upstream;
use off_testkit::{Program, TestNats, tokens};

const PATH: &str = env!("CARGO_BIN_EXE_off-gateway");

#[tokio::test]
async fn the_program_starts_and_exits_successfully_on_sigterm() {
    let (nats, upstream) = (TestNats::new().await, Upstream::start().await);
    let keys = tokens::keys_file();
    let settings = [
        ("NATS_URL", &*nats.url),
        ("HTTP_SERVICE_PORT", "0"),
        ("HEALTH_PORT", "0"),
        ("AUTH_KEYS_FILE", keys.to_str().unwrap()),
        ("ORDERS_URL", upstream.url.as_str()),
        ("CORS_ORIGINS", "https://a.example,https://b.example"),
        ("RATE_PERSON", "10/1s"),
    ];
    let program = Program::start(PATH, &settings).await;
    program.health.wait_until_ready().await;
    assert_eq!(program.http.get("/api/orders").await.status, 200);
    assert!(program.terminate().await);
    nats.end().await;
}

#[tokio::test]
async fn a_wrong_setting_is_named() {
    for (name, value) in [
        ("RATE_PERSON", "many"),
        ("CORS_ORIGINS", "*"),
        ("USERS_URL", "http://users/path"),
        ("GENERATOR_URL", "http://generator:8084"),
        ("TLS_CERT_FILE", "/does/not/exist"),
    ] {
        let settings =
            [("NATS_URL", "nats://127.0.0.1:1"), ("HTTP_SERVICE_PORT", "0"), ("HEALTH_PORT", "0"), (name, value)];
        let (code, error) = Program::refuse(PATH, &settings).await;
        let flag = name.to_ascii_lowercase().replace('_', "-");
        assert_ne!(code, Some(0));
        assert!(error.contains(name) || error.contains(&flag), "{name}: {error}");
    }
}
