//! The generator as a program.

use crate::TestSystem;
use axum::{Json, Router, routing::post};
use off_testkit::{Program, tokens};
use serde_json::json;
use std::{future::IntoFuture, io::Write};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;

/// Issues tokens that the services of the tests accept; the programs are tested with the real auth service in off-cli.
async fn start_token_issuer() -> String {
    let issue = || async { Json(json!({"access_token": tokens::test_client(), "expires_in": 600})) };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(axum::serve(listener, Router::new().route("/oauth/token", post(issue))).into_future());
    format!("http://{address}/oauth/token")
}

#[tokio::test]
async fn the_program_starts_and_exits_successfully_on_sigterm() {
    let system = TestSystem::new().await;
    let token_url = start_token_issuer().await;
    let mut secret = NamedTempFile::new().expect("a temporary file");
    secret.write_all(b"a secret of the generator").expect("it can be written");
    let secret_file = secret.path().to_string_lossy();
    let settings = [
        ("NATS_URL", &*system.world.nats.url),
        ("USERS_URL", system.users.http.base()),
        ("ORDERS_URL", system.orders.http.base()),
        ("BILLING_URL", system.billing.http.base()),
        ("AUTH_TOKEN_URL", &token_url),
        ("CLIENT_SECRET_FILE", &secret_file),
        ("HTTP_SERVICE_PORT", "0"),
        ("GENERATOR_HOUSEHOLDS", "2"),
    ];
    let program = Program::start(env!("CARGO_BIN_EXE_off-generator"), &settings).await;
    system.wait_until_registered(2).await;
    assert!(program.terminate().await);
    system.end().await;
}

#[tokio::test]
async fn without_a_secret_it_does_not_start() {
    let settings = [("NATS_URL", "nats://127.0.0.1:1"), ("HTTP_SERVICE_PORT", "0")];
    let (code, error) = Program::refuse(env!("CARGO_BIN_EXE_off-generator"), &settings).await;
    assert!(code == Some(1) && error.contains("CLIENT_SECRET_FILE is not set"), "{error}");
}
