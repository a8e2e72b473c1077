//! The server's time for each page, one request after another, with a million orders stored.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::{Context, anyhow, ensure};
use argon2::{Argon2, password_hash::PasswordHasher};
use bytes::Bytes;
use clap::Parser;
use http_body_util::Full;
use hyper::Request;
use off_bench::{
    Front, Stage,
    load::{self, Connection},
    report::{at_most, progress, table},
    stage::barcode,
    store,
};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Products. No divisor of the number of people, so that each of them has many on their shelf.
const PRODUCTS: i64 = 999;

const SERVICES: [&str; 6] = ["auth", "users", "orders", "billing", "notifications", "operator"];

/// Requests for each page, after those that warm up.
const REQUESTS: usize = 200;
const WARM_UP: usize = 20;

/// Of both people who sign in.
const PASSWORD: &str = "correct horse battery";

/// Target: milliseconds of each page (p99).
const TARGET_MS: f64 = 50.0;

#[derive(Debug, Parser)]
struct Options {
    /// Number of stored orders.
    #[arg(long, default_value_t = 1_000_000)]
    orders: i64,
    /// Number of people; each has an account and a device.
    #[arg(long, default_value_t = 10_000)]
    people: i64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    progress("storing people");
    stage.seed_data(PRODUCTS, options.people).await?;
    stage.store_ended(options.orders, options.people, PRODUCTS).await?;
    store::vacuum(&stage.db).await?;
    store::checkpoint(&stage.db).await?;
    let (person, operator) = (17, 18);
    store::add_accounts(&stage.db, person, operator, &hash()?).await?;
    let front = Front::start(&stage, &SERVICES, &[]).await?;
    let gateway = front.address("gateway")?;
    let order = store::newest_order_of(&stage.db, person).await?;
    let (own, operator) = (sign_in(gateway, person).await?, sign_in(gateway, operator).await?);
    let mut rows = table(&["page", "KB", "p50 ms", "p99 ms"]);
    let mut slowest: (f64, String) = (0.0, String::new());
    for (path, token) in [
        ("/".to_owned(), &own),
        ("/orders".to_owned(), &own),
        ("/orders?status=refused".to_owned(), &own),
        (format!("/orders/{order}"), &own),
        ("/shelves".to_owned(), &own),
        (format!("/devices/{person}"), &own),
        ("/catalog".to_owned(), &own),
        (format!("/catalog/{}", barcode(7)), &own),
        ("/account".to_owned(), &own),
        ("/operator".to_owned(), &operator),
        ("/operator/dead-letters".to_owned(), &operator),
        ("/operator/audit".to_owned(), &operator),
        ("/operator/imports".to_owned(), &operator),
        ("/operator/faults".to_owned(), &operator),
    ] {
        progress(&path);
        let requests = (0..WARM_UP + REQUESTS).map(|_| page_request(&path, token));
        let (times, bytes) = load::in_sequence(gateway, requests, WARM_UP).await?;
        let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
        let size = format!("{:.1}", bytes as f64 / 1000.0);
        rows.add_row([path.clone(), size, format!("{:.1}", ms(0.5)), format!("{:.1}", ms(0.99))]);
        if ms(0.99) > slowest.0 {
            slowest = (ms(0.99), path);
        }
    }
    progress("");
    println!("{rows}\n");
    at_most(&format!("p99 of the slowest page, {}", slowest.1), slowest.0, TARGET_MS, "ms");
    front.stop().await?;
    stage.end().await
}

fn hash() -> anyhow::Result<String> {
    let hash = Argon2::default().hash_password(PASSWORD.as_bytes());
    Ok(hash.map_err(|error| anyhow!("cannot hash: {error}"))?.to_string())
}

/// An access token of a person.
async fn sign_in(gateway: SocketAddr, person: i64) -> anyhow::Result<String> {
    let body = json!({"email": format!("owner{person}@example.org"), "password": PASSWORD});
    let mut connection = Connection::open(gateway).await?;
    let (status, answer) = connection.exchange(load::post("/api/login", body.to_string())?).await?;
    ensure!(status.is_success(), "a sign-in was answered with {status}: {}", String::from_utf8_lossy(&answer));
    let answer: Value = serde_json::from_slice(&answer)?;
    Ok(answer["access_token"].as_str().context("no token")?.to_owned())
}

fn page_request(path: &str, token: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::get(path).header("host", "localhost").header("authorization", format!("Bearer {token}"));
    Ok(request.body(Full::default())?)
}
