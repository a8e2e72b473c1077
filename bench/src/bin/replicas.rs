//! Several replicas of each service on a cluster of three NATS servers with replicated streams. The leader of the
//! orders' stream is killed under load. Every order must be delivered once, and the audit must have no findings.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::{Context, ensure};
use clap::Parser;
use futures::future::try_join_all;
use off_bench::{
    Cluster, Program, load,
    report::{at_most, progress, table},
    stage::{DEVICES, PRODUCTS, Ports, order_body, seed_data, wait_until_ready},
    usage::{Measured, Usage},
};
use off_events::streams;
use off_kit::telemetry;
use off_servers::{Postgres, find_postgres};
use sqlx::PgPool;
use std::{net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, time::Duration};
use tokio::time::Instant;

/// Connections to each replica of the orders service.
const CONNECTIONS: usize = 128;

/// How long the remaining orders may take after the load. Messages that the killed leader had sent out are redelivered
/// after 30 seconds.
const DELIVERY_TIMEOUT: Duration = Duration::from_mins(3);

const SERVICES: [&str; 3] = ["users", "orders", "notifications"];

#[derive(Debug, Parser)]
struct Options {
    /// Number of replicas of each service. Without it, two and then three.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    replicas: Option<u8>,
    /// Orders per second, distributed over the replicas.
    #[arg(long, default_value_t = 600.0, value_name = "N")]
    rate: f64,
    /// Length of the load. The server is killed after one third of it and restarted after two thirds.
    #[arg(long = "for", default_value = "60s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    length: Duration,
    /// Do not kill a server, to measure which rate the system sustains.
    #[arg(long)]
    without_fault: bool,
}

/// A replica of a service.
struct Replica {
    service: &'static str,
    ports: Ports,
    program: Program,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    telemetry::init("off-bench", &telemetry::Config::new("error", None))?;
    for replicas in options.replicas.map_or_else(|| vec![2, 3], |replicas| vec![replicas]) {
        run(&options, replicas).await.with_context(|| format!("with {replicas} of each service"))?;
    }
    Ok(())
}

async fn run(options: &Options, replicas: u8) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("off-bench-").tempdir()?;
    // When this process runs as root, Postgres runs as another user that needs access to the folder.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    progress("starting PostgreSQL and three NATS servers");
    let (programs, _) = find_postgres().await?;
    let mut postgres = Postgres::start(&programs, &folder.path().join("postgres"), &[]).await?;
    let mut cluster = Cluster::start(folder.path()).await?;
    let pool = PgPool::connect(&postgres.url).await?;
    let admin = [("DATABASE_URL", &*postgres.url), ("NATS_URL", &*cluster.url("admin")), ("NATS_REPLICAS", "3")];
    off(folder.path(), &["migrate"], &admin).await?;
    seed_data(&pool, PRODUCTS, DEVICES).await?;
    let mut running = Vec::new();
    for _ in 0..replicas {
        for service in SERVICES {
            running.push(start(service, &postgres.url, &cluster.url(service))?);
        }
    }
    for replica in &running {
        wait_until_ready(replica.ports.health).await?;
    }

    let mut measured = vec![Measured { name: "Postgres", id: postgres.id()?, health: None }];
    measured.extend(cluster.ids().map(|id| Measured { name: "NATS", id, health: None }));
    for Replica { service, program, .. } in &running {
        measured.push(Measured { name: service, id: program.id()?, health: None });
    }

    progress(&format!("{} orders per second, {replicas} of each service", options.rate));
    let addresses: Vec<SocketAddr> =
        running.iter().filter(|replica| replica.service == "orders").map(|replica| replica.ports.address).collect();
    let each = options.rate / addresses.len() as f64;
    let offering = try_join_all(addresses.iter().enumerate().map(|(index, &address)| {
        let request = move |number| load::post("/api/orders", order_body(number * u64::from(replicas) + index as u64)?);
        load::offer(address, each, options.length, CONNECTIONS, request)
    }));
    let watching = async {
        let (before, placed_before) = (Usage::now(&measured).await?, count_orders(&pool).await?);
        tokio::time::sleep(options.length / 3).await;
        let (after, placed) = (Usage::now(&measured).await?, count_orders(&pool).await? - placed_before);
        let leaderless =
            if options.without_fault { None } else { Some(kill_leader(&mut cluster, options.length / 3).await?) };
        anyhow::Ok((after.processes_since(&before), placed, leaderless))
    };
    let (offered, watched) = tokio::join!(offering, watching);
    let (offered, (usage, placed, leaderless)) = (offered?, watched?);

    progress("waiting until every order is delivered");
    let load_ended = Instant::now();
    wait_until_delivered(&pool).await?;
    let delivered_after = load_ended.elapsed();
    let mut rows = table(&["replica", "answered 201", "p50 ms", "p99 ms", "messages handled"]);
    let mut orders_results = offered.iter();
    for Replica { service, ports, .. } in &running {
        let handled = handled(ports.health).await?;
        let result = if *service == "orders" { orders_results.next() } else { None };
        let cell = |value: Option<String>| value.unwrap_or_default();
        rows.add_row([
            (*service).to_owned(),
            cell(result.map(|result| result.outcome.of(201).count().to_string())),
            cell(result.map(|result| format!("{:.1}", result.outcome.of(201).ms(0.5)))),
            cell(result.map(|result| format!("{:.1}", result.outcome.of(201).ms(0.99)))),
            handled.to_string(),
        ]);
    }
    println!("{rows}\n");
    let accepted: u64 = offered.iter().map(|offered| offered.outcome.of(201).count()).sum();
    let others: u64 =
        offered.iter().map(|offered| offered.outcome.count() + offered.unanswered).sum::<u64>() - accepted;
    let (stored, delivered): (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM orders.product_orders), (SELECT count(*) FROM users.deliveries)")
            .fetch_one(&pool)
            .await?;
    println!("{accepted} orders answered with 201 by {replicas} replicas, {others} other responses or none");
    print_usage(&usage, placed);
    print_storage(&cluster, &pool).await?;
    println!(
        "the last order was delivered {:.1} s after the load ended; its waits take 2 to 4 s",
        delivered_after.as_secs_f64()
    );
    if let Some(leaderless) = leaderless {
        println!("the orders' stream had no leader for {:.1} s", leaderless.as_secs_f64());
    }
    at_most("orders answered with 201 and not stored", accepted as f64 - stored as f64, 0.0, "");
    at_most("orders stored and not delivered", (stored - delivered) as f64, 0.0, "");
    let operator = [("DATABASE_URL", &*postgres.url), ("NATS_URL", &*cluster.url("operator"))];
    println!("{}", off(folder.path(), &["audit"], &operator).await.context("the audit failed")?);
    for replica in running {
        replica.program.stop().await?;
    }
    pool.close().await;
    cluster.stop().await?;
    postgres.stop().await
}

/// Kills the leader of the orders' stream and restarts it after `downtime`; returns how long the stream had no leader.
async fn kill_leader(cluster: &mut Cluster, downtime: Duration) -> anyhow::Result<Duration> {
    let bus = cluster.bus().await?;
    let leader = cluster.leader(&bus, streams::ORDERS.name).await.context("the orders' stream has no leader")?;
    cluster.kill_server(leader).await?;
    let killed = Instant::now();
    let leaderless = loop {
        match cluster.leader(&bus, streams::ORDERS.name).await {
            Some(next) if next != leader => break killed.elapsed(),
            _ => ensure!(killed.elapsed() < DELIVERY_TIMEOUT, "the orders' stream has no new leader"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    tokio::time::sleep_until(killed + downtime).await;
    cluster.start_server(leader)?;
    bus.close().await;
    Ok(leaderless)
}

/// Prints the processor time per order in milliseconds, by process.
fn print_usage(usage: &[(&'static str, f64)], orders: i64) {
    let each: Vec<String> =
        usage.iter().map(|(name, seconds)| format!("{name} {:.2} ms", seconds * 1000.0 / orders as f64)).collect();
    println!("processor time per order: {}", each.join(", "));
}

async fn count_orders(pool: &PgPool) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM orders.product_orders").fetch_one(pool).await?)
}

/// Prints the storage per order in bytes: in Postgres permanently, including indexes, and in the streams for a week.
async fn print_storage(cluster: &Cluster, pool: &PgPool) -> anyhow::Result<()> {
    let bus = cluster.bus().await?;
    let streams = cluster.bytes(&bus).await?;
    bus.close().await;
    let (tables, orders): (i64, i64) = sqlx::query_as(
        "SELECT pg_total_relation_size('orders.product_orders') + pg_total_relation_size('users.deliveries'),
                (SELECT count(*) FROM orders.product_orders)",
    )
    .fetch_one(pool)
    .await?;
    println!(
        "storage per order: Postgres {} bytes, each NATS server {} bytes",
        tables / orders,
        streams / orders.cast_unsigned()
    );
    Ok(())
}

fn start(service: &'static str, database_url: &str, nats_url: &str) -> anyhow::Result<Replica> {
    let ports = Ports::free()?;
    let mut settings = vec![("DATABASE_URL", database_url), ("NATS_URL", nats_url)];
    settings.extend(ports.settings());
    for (min, max) in [("SUPPLIER_DELAY_MIN", "SUPPLIER_DELAY_MAX"), ("DELIVERY_DELAY_MIN", "DELIVERY_DELAY_MAX")] {
        settings.extend([(min, "1s"), (max, "2s")]);
    }
    let program = Program::start(&["serve", service], &settings)?;
    Ok(Replica { service, ports, program })
}

async fn wait_until_delivered(pool: &PgPool) -> anyhow::Result<()> {
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    let undelivered = "SELECT count(*) FROM orders.product_orders AS placed
                     WHERE status <> 'completed' OR NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = placed.id)";
    loop {
        let left: i64 = sqlx::query_scalar(undelivered).fetch_one(pool).await?;
        if left == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{left} orders are not delivered in time");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Number of messages that the replica with this health address has handled.
async fn handled(health: SocketAddr) -> anyhow::Result<u64> {
    let body = load::fetch(health, "/metrics").await?;
    let text = String::from_utf8_lossy(&body);
    let counts = text.lines().filter(|line| line.starts_with("off_messages_handled_total{"));
    Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

/// Runs a command of `off` and returns its standard output; an error if it fails.
async fn off(home: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> anyhow::Result<String> {
    let path = std::env::current_exe()?.with_file_name("off");
    let command = tokio::process::Command::new(&path)
        .args(arguments)
        .env("OFF_HOME", home)
        .envs(settings.iter().copied())
        .output();
    let output = command.await.with_context(|| format!("{} does not exist: ./run doctor builds it", path.display()))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "off {}: {stdout}{stderr}", arguments.join(" "));
    Ok(stdout.into_owned())
}
