//! Several replicas of each service on three NATS servers that each keep everything; one of those is killed under load, the
//! one that leads the orders' stream. Every order arrives once, and the audit says so.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use anyhow::{Context, ensure};
use clap::Parser;
use futures::future::try_join_all;
use off_bench::{
    Cluster, Program, load,
    report::{at_most, progress, table},
    stage::{PRODUCTS, Ports, SSDS, settle, wait_until_ready, wish},
    used::{Measured, Used},
};
use off_kit::{
    servers::{Postgres, find_postgres},
    telemetry,
};
use sqlx::PgPool;
use std::{net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, time::Duration};
use tokio::time::Instant;

/// Connections to each replica of the orders service.
const CONNECTIONS: usize = 128;

/// How long all may take to arrive afterwards. What a dead leader had handed out comes again after 30 seconds.
const ARRIVES_WITHIN: Duration = Duration::from_mins(3);

const SERVICES: [&str; 3] = ["users", "orders", "notifications"];

#[derive(Debug, Parser)]
struct Options {
    /// How many of each service; without it, two and then three.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    replicas: Option<u8>,
    /// Orders a second, to all replicas together.
    #[arg(long, default_value_t = 600.0, value_name = "N")]
    rate: f64,
    /// How long; the server is killed after a third of it and comes back after two.
    #[arg(long = "for", default_value = "60s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    length: Duration,
    /// Kill no server: to see what rate they keep up with.
    #[arg(long)]
    without_fault: bool,
}

/// A replica and where it answers.
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
    // Root's Postgres runs as another user, who has to get to its files.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    progress("starting PostgreSQL and three NATS servers");
    let (programs, _) = find_postgres().await?;
    let mut postgres = Postgres::start(&programs, &folder.path().join("postgres"), &[]).await?;
    let mut cluster = Cluster::start(folder.path()).await?;
    let pool = PgPool::connect(&postgres.url).await?;
    let admin = [("DATABASE_URL", &*postgres.url), ("NATS_URL", &*cluster.url("admin")), ("NATS_REPLICAS", "3")];
    off(folder.path(), &["migrate"], &admin).await?;
    settle(&pool, PRODUCTS, SSDS).await?;
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

    progress(&format!("{} orders a second, {replicas} of each service", options.rate));
    let takers: Vec<SocketAddr> =
        running.iter().filter(|replica| replica.service == "orders").map(|replica| replica.ports.address).collect();
    let each = options.rate / takers.len() as f64;
    let offering = try_join_all(takers.iter().enumerate().map(|(index, &address)| {
        let request = move |number| load::post("/api/orders", wish(number * u64::from(replicas) + index as u64)?);
        load::offer(address, each, options.length, CONNECTIONS, request)
    }));
    let watching = async {
        let (before, placed_before) = (Used::now(&measured).await?, count_orders(&pool).await?);
        tokio::time::sleep(options.length / 3).await;
        let (after, placed) = (Used::now(&measured).await?, count_orders(&pool).await? - placed_before);
        let leaderless =
            if options.without_fault { None } else { Some(break_leader(&mut cluster, options.length / 3).await?) };
        anyhow::Ok((after.processes_since(&before), placed, leaderless))
    };
    let (offered, watched) = tokio::join!(offering, watching);
    let (offered, (used, placed, leaderless)) = (offered?, watched?);

    progress("waiting until every order has arrived");
    let offered_all = Instant::now();
    wait_until_arrived(&pool).await?;
    let arrived_after = offered_all.elapsed();
    let mut rows = table(&["replica", "answered 201", "p50 ms", "p99 ms", "messages handled"]);
    let mut of_orders = offered.iter();
    for Replica { service, ports, .. } in &running {
        let handled = handled(ports.health).await?;
        let taken = if *service == "orders" { of_orders.next() } else { None };
        let cell = |value: Option<String>| value.unwrap_or_default();
        rows.add_row([
            (*service).to_owned(),
            cell(taken.map(|taken| taken.outcome.of(201).count().to_string())),
            cell(taken.map(|taken| format!("{:.1}", taken.outcome.of(201).ms(0.5)))),
            cell(taken.map(|taken| format!("{:.1}", taken.outcome.of(201).ms(0.99)))),
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
    println!("{accepted} orders answered with 201 by {replicas} replicas, {others} requests otherwise or not at all");
    print_used(&used, placed);
    print_room(&cluster, &pool).await?;
    println!(
        "the last order arrived {:.1} s after the load ended; its waits take 2 to 4 s",
        arrived_after.as_secs_f64()
    );
    if let Some(leaderless) = leaderless {
        println!("the orders' stream was without a leader for {:.1} s", leaderless.as_secs_f64());
    }
    at_most("orders answered with 201 and not stored", accepted as f64 - stored as f64, 0.0, "");
    at_most("orders stored and not delivered", (stored - delivered) as f64, 0.0, "");
    let operator = [("DATABASE_URL", &*postgres.url), ("NATS_URL", &*cluster.url("operator"))];
    println!("{}", off(folder.path(), &["audit"], &operator).await.context("the audit")?);
    for replica in running {
        replica.program.stop().await?;
    }
    pool.close().await;
    cluster.stop().await?;
    postgres.stop().await
}

/// Kills the server that leads the orders' stream and starts it again after a while; says how long nobody led.
async fn break_leader(cluster: &mut Cluster, dead_for: Duration) -> anyhow::Result<Duration> {
    let bus = cluster.bus().await?;
    let leader = cluster.leader(&bus, "ORDERS").await.context("nobody leads the orders' stream")?;
    cluster.kill_server(leader).await?;
    let killed = Instant::now();
    let leaderless = loop {
        match cluster.leader(&bus, "ORDERS").await {
            Some(next) if next != leader => break killed.elapsed(),
            _ => ensure!(killed.elapsed() < ARRIVES_WITHIN, "nobody leads the orders' stream any more"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    tokio::time::sleep_until(killed + dead_for).await;
    cluster.start_server(leader)?;
    bus.close().await;
    Ok(leaderless)
}

/// Milliseconds of a core for each order, by who used them.
fn print_used(used: &[(&'static str, f64)], orders: i64) {
    let each: Vec<String> =
        used.iter().map(|(name, seconds)| format!("{name} {:.2} ms", seconds * 1000.0 / orders as f64)).collect();
    println!("processor time an order: {}", each.join(", "));
}

async fn count_orders(pool: &PgPool) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM orders.product_orders").fetch_one(pool).await?)
}

/// What is kept of each order, in bytes: for good in Postgres with all indexes, and until they are a week old in the streams.
async fn print_room(cluster: &Cluster, pool: &PgPool) -> anyhow::Result<()> {
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
        "room an order: Postgres {} bytes, each NATS server {}",
        tables / orders,
        streams / orders.cast_unsigned()
    );
    Ok(())
}

fn start(service: &'static str, database_url: &str, nats_url: &str) -> anyhow::Result<Replica> {
    let ports = Ports::free()?;
    let mut settings = vec![("DATABASE_URL", database_url), ("NATS_URL", nats_url)];
    settings.extend(ports.settings());
    for (shortest, longest) in
        [("SUPPLIER_DELAY_MIN", "SUPPLIER_DELAY_MAX"), ("DELIVERY_DELAY_MIN", "DELIVERY_DELAY_MAX")]
    {
        settings.extend([(shortest, "1s"), (longest, "2s")]);
    }
    let program = Program::start(&["serve", service], &settings)?;
    Ok(Replica { service, ports, program })
}

async fn wait_until_arrived(pool: &PgPool) -> anyhow::Result<()> {
    let deadline = Instant::now() + ARRIVES_WITHIN;
    let under_way = "SELECT count(*) FROM orders.product_orders AS placed
                     WHERE status <> 'completed' OR NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = placed.id)";
    loop {
        let left: i64 = sqlx::query_scalar(under_way).fetch_one(pool).await?;
        if left == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{left} orders have not arrived");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The messages that the replica with this health port has handled.
async fn handled(health: SocketAddr) -> anyhow::Result<u64> {
    let body = load::fetch(health, "/metrics").await?;
    let text = String::from_utf8_lossy(&body);
    let counts = text.lines().filter(|line| line.starts_with("off_messages_handled_total{"));
    Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

/// Runs a command of `off` to its end and says what it printed; fails when it does.
async fn off(home: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> anyhow::Result<String> {
    let path = std::env::current_exe()?.with_file_name("off");
    let command = tokio::process::Command::new(&path)
        .args(arguments)
        .env("OFF_HOME", home)
        .envs(settings.iter().copied())
        .output();
    let output = command.await.with_context(|| format!("{} is not there: ./run doctor builds it", path.display()))?;
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "off {}: {said}{wrong}", arguments.join(" "));
    Ok(said.into_owned())
}
