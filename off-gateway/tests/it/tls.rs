//! TLS, with a certificate that is replaced.

use crate::{Gate, config, start_gateway, upstream::Upstream};
use off_gateway::{Gateway, Tls};
use off_kit::{Clock, Kit, Service, http};
use off_testkit::{TestNats, eventually, tokens};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use reqwest::{Certificate, Client};
use std::{fs, path::Path};

/// Writes a new certificate and its key; returns the certificate.
fn write_certificate(folder: &Path) -> String {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    cert.pem()
}

fn settings(folder: &Path) -> Tls {
    Tls { tls_cert_file: Some(folder.join("cert.pem")), tls_key_file: Some(folder.join("key.pem")) }
}

/// A client that trusts one certificate only, with a new connection for each request.
fn client(certificate: &str) -> Client {
    let trusted = Certificate::from_pem(certificate.as_bytes()).unwrap();
    Client::builder().tls_certs_only([trusted]).pool_max_idle_per_host(0).build().unwrap()
}

#[tokio::test]
async fn a_replaced_certificate_is_used_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_certificate(folder.path());
    let clock = Clock::real(1.0).with_short_timeouts(100);
    let (nats, upstream) = (TestNats::new().await, Upstream::start().await);
    let mut config = config(&nats, &upstream.url);
    config.tls = settings(folder.path());
    let gateway = start_gateway(config, clock).await;
    let port = gateway.http.base().rsplit(':').next().unwrap().to_owned();
    let get = async |certificate: &str| {
        let request = client(certificate).get(format!("https://localhost:{port}/api/orders"));
        request.bearer_auth(tokens::test_client()).send().await
    };
    let answer = get(&first).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["strict-transport-security"].to_str().unwrap()),
        (200, "max-age=31536000")
    );
    assert_eq!(upstream.last_headers()["x-forwarded-proto"], "https");

    // A key that does not belong to the certificate is not used.
    fs::write(folder.path().join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(get(&first).await.is_ok());

    let second = write_certificate(folder.path());
    eventually("the new certificate is used", || async { get(&second).await.ok() }).await;
    assert!(get(&first).await.is_err());
    gateway.stop().await;
    nats.end().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_prevents_the_start() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path());
    fs::write(folder.path().join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let (nats, upstream) = (TestNats::new().await, Upstream::start().await);
    let mut config = config(&nats, &upstream.url);
    config.tls = settings(folder.path());
    let kit = Kit::new::<Gateway>(http::Config::on_loopback(0, 0), Clock::real(1.0));
    let refusal = Gateway::start(config, kit).await.unwrap_err();
    assert!(format!("{refusal:#}").starts_with("TLS_KEY_FILE"), "{refusal:#}");
    nats.end().await;
}

#[tokio::test]
async fn a_plain_gateway_promises_no_tls() {
    let gate = Gate::start().await;
    assert_eq!(gate.http().get("/").await.header("strict-transport-security"), "");
    gate.end().await;
}
