//! `POST /api/login` compared with bare verification of passwords, and `POST /api/refresh`.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::{Context, anyhow, ensure};
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use http_body_util::Full;
use hyper::Request;
use off_bench::{
    Outcome, Stage,
    load::{self, Connection},
    proc::{processor_time_of, processor_time_of_family},
    report::{median, progress, ratio, table},
    stage::wait_until_ready,
    store,
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    thread::available_parallelism,
    time::{Duration, Instant},
};

const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_secs(8);
const REFRESHING: Duration = Duration::from_secs(4);
const CONNECTIONS: u64 = 32;

/// More than sign in during the benchmark.
const PEOPLE: i64 = 20_000;
const PASSWORD: &str = "correct horse battery";

/// Everybody signs in once, so that no row is locked twice.
static NEXT_PERSON: AtomicU64 = AtomicU64::new(1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let hash = Argon2::default().hash_password(PASSWORD.as_bytes());
    let hash = hash.map_err(|error| anyhow!("cannot hash: {error}"))?.to_string();
    store::seed_people(&stage.db, PEOPLE, &hash).await?;
    let auth = stage.start_auth().await?;
    wait_until_ready(auth.addresses().health).await?;
    let address = auth.addresses().api;
    progress("warming up");
    sign_in(address).await?;
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        rounds.push(Round::measure(&stage, address, &hash).await?);
    }
    progress("");
    print(&rounds);
    auth.stop().await?;
    stage.end().await
}

/// One round of measurements.
struct Round {
    /// Verifications per second.
    verified: f64,
    /// Processor time of a verification, in milliseconds.
    verification: f64,
    signed_in: Outcome,
    /// Processor time of a sign-in, with Postgres and the client, in milliseconds.
    sign_in: f64,
    refreshed: Outcome,
}

impl Round {
    async fn measure(stage: &Stage, address: SocketAddr, hash: &str) -> anyhow::Result<Self> {
        let postgres = stage.postgres.id()?;
        let used = || anyhow::Ok(processor_time_of(std::process::id())? + processor_time_of_family(postgres)?);
        let hash = hash.to_owned();
        let before = used()?;
        let (verified, count) = tokio::task::spawn_blocking(move || verify_on_all_cores(&hash)).await??;
        let between = used()?;
        let signed_in = sign_in(address).await?;
        let after = used()?;
        Ok(Self {
            verified,
            verification: (between - before) * 1000.0 / count,
            sign_in: (after - between) * 1000.0 / signed_in.count() as f64,
            signed_in,
            refreshed: refresh(address).await?,
        })
    }
}

fn print(rounds: &[Round]) {
    let figure = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    let mut table = table(&["", "per second", "p50 ms", "p99 ms", "processor time, ms"]);
    let latency = |outcome: fn(&Round) -> &Outcome, quantile: f64| {
        format!("{:.1}", median(rounds.iter().map(|round| outcome(round).ms(quantile))))
    };
    table.add_row([
        "bare verification".to_owned(),
        format!("{:.0}", figure(|round| round.verified)),
        String::new(),
        String::new(),
        format!("{:.1}", figure(|round| round.verification)),
    ]);
    table.add_row([
        "sign-ins".to_owned(),
        format!("{:.0}", figure(|round| round.signed_in.rate())),
        latency(|round| &round.signed_in, 0.5),
        latency(|round| &round.signed_in, 0.99),
        format!("{:.1}", figure(|round| round.sign_in)),
    ]);
    table.add_row([
        "refreshes".to_owned(),
        format!("{:.0}", figure(|round| round.refreshed.rate())),
        latency(|round| &round.refreshed, 0.5),
        latency(|round| &round.refreshed, 0.99),
        String::new(),
    ]);
    println!("{table}\n({CONNECTIONS} connections, medians of {ROUNDS} rounds)\n");
    ratio("sign-ins against bare verification", figure(|round| round.signed_in.rate() / round.verified), 0.9);
    // Other programs that run now change it less than the rates.
    let cost = figure(|round| round.verification / round.sign_in);
    println!("{:<58} {cost:>7.2} ×", "… by processor time, with Postgres and the client");
}

/// The sign-in of the next person.
fn login() -> anyhow::Result<Request<Full<Bytes>>> {
    let email = store::email(NEXT_PERSON.fetch_add(1, Ordering::Relaxed));
    load::post("/api/login", format!(r#"{{"email":"{email}","password":"{PASSWORD}"}}"#))
}

/// Signs people in, in a closed loop.
async fn sign_in(address: SocketAddr) -> anyhow::Result<Outcome> {
    let signed_in = load::load(address, CONNECTIONS, LENGTH, |_| login()).await?;
    signed_in.expect_only(&[200])?;
    Ok(signed_in)
}

/// Refreshes one session on each connection, in a closed loop.
async fn refresh(address: SocketAddr) -> anyhow::Result<Outcome> {
    let sessions = stream::iter(0..CONNECTIONS).map(|_| Session::start(address)).buffer_unordered(2);
    let sessions: Vec<Session> = sessions.try_collect().await?;
    let started = Instant::now();
    let outcomes = sessions.into_iter().map(|session| tokio::spawn(session.refresh_until(started + REFRESHING)));
    let mut whole = Outcome::empty()?;
    for outcome in try_join_all(outcomes).await? {
        whole.add(&outcome?)?;
    }
    whole.elapsed = started.elapsed();
    Ok(whole)
}

/// A session with a connection of its own.
struct Session {
    connection: Connection,
    refresh_token: String,
}

impl Session {
    async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let mut connection = Connection::open(address).await?;
        let (status, body) = connection.exchange(login()?).await?;
        ensure!(status == 200, "a sign-in was answered with {status}");
        Ok(Self { connection, refresh_token: refresh_token(&body)? })
    }

    async fn refresh_until(mut self, end: Instant) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::empty()?;
        while Instant::now() < end {
            let request = load::post("/api/refresh", format!(r#"{{"refresh_token":"{}"}}"#, self.refresh_token))?;
            let sent = Instant::now();
            let (status, body) = self.connection.exchange(request).await?;
            outcome.record(status, sent.elapsed());
            ensure!(status == 200, "a refresh was answered with {status}");
            self.refresh_token = refresh_token(&body)?;
        }
        Ok(outcome)
    }
}

fn refresh_token(body: &[u8]) -> anyhow::Result<String> {
    let tokens: Value = serde_json::from_slice(body)?;
    Ok(tokens["refresh_token"].as_str().context("an answer has no refresh token")?.to_owned())
}

/// Verifications per second, and their number, with one thread per core.
fn verify_on_all_cores(hash: &str) -> anyhow::Result<(f64, f64)> {
    let started = Instant::now();
    let threads = available_parallelism()?.get();
    let count: anyhow::Result<u32> = std::thread::scope(|scope| {
        let verifying = || {
            let mut count = 0_u32;
            while started.elapsed() < LENGTH {
                let hash = PasswordHash::new(hash).map_err(|error| anyhow!("cannot read the hash: {error}"))?;
                let verified = Argon2::default().verify_password(PASSWORD.as_bytes(), &hash);
                verified.map_err(|error| anyhow!("cannot verify: {error}"))?;
                count += 1;
            }
            anyhow::Ok(count)
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(verifying)).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?).sum()
    });
    let count = f64::from(count?);
    Ok((count / started.elapsed().as_secs_f64(), count))
}
