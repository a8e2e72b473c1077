//! `POST /api/register` compared with bare password hashing, and the latency of other requests during that load.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::anyhow;
use argon2::{Argon2, password_hash::PasswordHasher};
use off_bench::{
    Outcome, Stage, load,
    report::{at_most, median, progress, ratio},
};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    thread::available_parallelism,
    time::{Duration, Instant},
};

const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_secs(8);
const CONNECTIONS: u64 = 32;

/// Latency that other requests may have, in milliseconds. One hash occupies a core for longer.
const MAX_OTHER_P99_MS: f64 = 10.0;

static NEXT_HOUSEHOLD: AtomicU64 = AtomicU64::new(0);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let users = stage.start_users().await?;
    progress("warming up");
    register(users.addresses().api).await?;
    let (mut hashes, mut registrations, mut others) = (vec![], vec![], vec![]);
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        hashes.push(tokio::task::spawn_blocking(hash_on_all_cores).await??);
        let (registered, livez) =
            tokio::try_join!(register(users.addresses().api), request_livez(users.addresses().health))?;
        registrations.push(registered.rate());
        others.push(livez.ms(0.99));
    }
    progress("");
    println!(
        "bare hash: {:.0} per second; registrations: {:.0} per second (medians of {ROUNDS} rounds)",
        median(hashes.iter().copied()),
        median(registrations.iter().copied())
    );
    let ratios = registrations.iter().zip(&hashes).map(|(registered, hashed)| registered / hashed);
    ratio("registrations against the bare hash", median(ratios), 0.9);
    at_most("p99 of GET /livez during registrations", median(others), MAX_OTHER_P99_MS, "ms");
    users.stop().await?;
    stage.end().await
}

/// Registers households in a closed loop.
async fn register(address: SocketAddr) -> anyhow::Result<Outcome> {
    let registered = load(address, CONNECTIONS, LENGTH, |_| {
        let number = NEXT_HOUSEHOLD.fetch_add(1, Ordering::Relaxed);
        let mac = number.to_be_bytes().map(|byte| format!("{byte:02x}"))[4..].join(":");
        let body = format!(
            r#"{{"user":{{"first_name":"Ada","last_name":"Example","email":"ada{number}@example.org",
                "password":"correct horse battery"}},"devices":[{{"mac_address":"02:00:{mac}"}}]}}"#
        );
        load::post("/api/register", body)
    });
    let registered = registered.await?;
    registered.expect_only(&[201])?;
    Ok(registered)
}

/// Sends cheap requests at a low rate during the registrations.
async fn request_livez(health: SocketAddr) -> anyhow::Result<Outcome> {
    let livez = load::offer(health, 20.0, LENGTH, 10, |_| load::get("/livez")).await?;
    livez.expect_all(200)?;
    Ok(livez.outcome)
}

/// Hashes per second, with one thread per core.
fn hash_on_all_cores() -> anyhow::Result<f64> {
    let started = Instant::now();
    let threads = available_parallelism()?.get();
    let count: anyhow::Result<u32> = std::thread::scope(|scope| {
        let hashing = || {
            let mut count = 0_u32;
            while started.elapsed() < LENGTH {
                let hash = Argon2::default().hash_password(b"correct horse battery");
                hash.map_err(|error| anyhow!("cannot hash: {error}"))?;
                count += 1;
            }
            anyhow::Ok(count)
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(hashing)).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?).sum()
    });
    Ok(f64::from(count?) / started.elapsed().as_secs_f64())
}
