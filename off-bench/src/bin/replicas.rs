//! Several replicas of each service on a cluster of three NATS servers with replicated streams. The leader of the
//! orders' stream is killed under load. Every order must be delivered once, and the audit must have no findings.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::{Context, ensure};
use clap::Parser;
use futures::future::try_join_all;
use off_bench::{
    Cluster,
    load::{self, Offered},
    program::{find_off, start_off, stop},
    report::{at_most, progress, table},
    stage::{DEVICES, PRODUCTS, Ports, order_body, wait_until_ready},
    store,
    usage::{Measured, Usage},
};
use off_events::streams;
use off_kit::telemetry;
use off_servers::{Postgres, find_postgres};
use off_testkit::Process;
use sqlx::PgPool;
use std::{net::SocketAddr, os::unix::fs::PermissionsExt, time::Duration};
use tempfile::TempDir;
use tokio::time::Instant;

/// Connections to each replica of the orders service.
const CONNECTIONS: usize = 128;

/// How long the remaining orders may take after the load. Messages that the killed leader had sent out are redelivered
/// after 30 seconds.
const DELIVERY_TIMEOUT: Duration = Duration::from_mins(3);

const SERVICES: [&str; 4] = ["users", "orders", "billing", "notifications"];

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
    process: Process,
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

/// The servers and all replicas of the services.
struct System {
    postgres: Postgres,
    cluster: Cluster,
    pool: PgPool,
    replicas: Vec<Replica>,
    /// The data of the servers; deleted last.
    folder: TempDir,
}

/// What was observed during the load.
struct Load {
    /// Responses of each replica of the orders service.
    offered: Vec<Offered>,
    /// Processor time of each process before the fault, in seconds, and the orders that were placed in that time.
    usage: Vec<(&'static str, f64)>,
    placed: i64,
    /// How long the orders' stream had no leader; `None` if no server was killed.
    leaderless: Option<Duration>,
}

async fn run(options: &Options, replicas: u8) -> anyhow::Result<()> {
    progress("starting PostgreSQL and three NATS servers");
    let mut system = System::start(replicas).await?;
    progress(&format!("{} orders per second, {replicas} of each service", options.rate));
    let load = system.load(options, replicas).await?;
    progress("waiting until every order is delivered");
    let load_ended = Instant::now();
    wait_until_delivered(&system.pool).await?;
    let delivered_after = load_ended.elapsed();
    system.print_replicas(&load.offered).await?;
    let accepted: u64 = load.offered.iter().map(|offered| offered.outcome.of(201).count()).sum();
    let others: u64 =
        load.offered.iter().map(|offered| offered.outcome.count() + offered.unanswered).sum::<u64>() - accepted;
    let (stored, delivered) = (store::count_orders(&system.pool).await?, store::count_deliveries(&system.pool).await?);
    println!("{accepted} orders answered with 201 by {replicas} replicas, {others} other responses or none");
    print_usage(&load.usage, load.placed);
    print_storage(&system.cluster, &system.pool).await?;
    println!(
        "the last order was delivered {:.1} s after the load ended; its waits take 2 to 4 s",
        delivered_after.as_secs_f64()
    );
    if let Some(leaderless) = load.leaderless {
        println!("the orders' stream had no leader for {:.1} s", leaderless.as_secs_f64());
    }
    at_most("orders answered with 201 and not stored", accepted as f64 - stored as f64, 0.0, "");
    at_most("orders stored and not delivered", (stored - delivered) as f64, 0.0, "");
    println!("{}", system.off("operator", &["audit"], &[]).await.context("the audit failed")?);
    system.stop().await
}

impl System {
    async fn start(replicas: u8) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("off-bench-").tempdir()?;
        // When this process runs as root, Postgres runs as another user that needs access to the folder.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let (programs, _) = find_postgres().await?;
        let postgres = Postgres::start(&programs, &folder.path().join("postgres"), &[]).await?;
        let cluster = Cluster::start(folder.path()).await?;
        let pool = PgPool::connect(&postgres.url).await?;
        let mut system = Self { postgres, cluster, pool, replicas: Vec::new(), folder };
        system.off("admin", &["migrate"], &[("NATS_REPLICAS", "3")]).await?;
        store::seed_data(&system.pool, PRODUCTS, DEVICES).await?;
        for _ in 0..replicas {
            for service in SERVICES {
                system.replicas.push(start(service, &system.postgres.url, &system.cluster.url(service))?);
            }
        }
        for replica in &system.replicas {
            wait_until_ready(replica.ports.health).await?;
        }
        Ok(system)
    }

    /// Offers orders to the replicas of the orders service, measures the first third, and then kills a server unless
    /// the options say otherwise.
    async fn load(&mut self, options: &Options, replicas: u8) -> anyhow::Result<Load> {
        let measured = self.measured()?;
        let orders = self.replicas.iter().filter(|replica| replica.service == "orders");
        let addresses: Vec<SocketAddr> = orders.map(|replica| replica.ports.address).collect();
        let each = options.rate / addresses.len() as f64;
        let offering = try_join_all(addresses.iter().enumerate().map(|(index, &address)| {
            let request =
                move |number| load::post("/api/orders", order_body(number * u64::from(replicas) + index as u64)?);
            load::offer(address, each, options.length, CONNECTIONS, request)
        }));
        let (pool, cluster) = (&self.pool, &mut self.cluster);
        let watching = async {
            let (before, placed_before) = (Usage::now(&measured).await?, store::count_orders(pool).await?);
            tokio::time::sleep(options.length / 3).await;
            let (after, placed) = (Usage::now(&measured).await?, store::count_orders(pool).await? - placed_before);
            let leaderless =
                if options.without_fault { None } else { Some(kill_leader(cluster, options.length / 3).await?) };
            anyhow::Ok((after.processes_since(&before), placed, leaderless))
        };
        let (offered, watched) = tokio::join!(offering, watching);
        let (offered, (usage, placed, leaderless)) = (offered?, watched?);
        Ok(Load { offered, usage, placed, leaderless })
    }

    /// All processes.
    fn measured(&self) -> anyhow::Result<Vec<Measured>> {
        let mut measured = vec![Measured { name: "Postgres", id: self.postgres.id()?, health: None }];
        measured.extend(self.cluster.ids().map(|id| Measured { name: "NATS", id, health: None }));
        for Replica { service, process, .. } in &self.replicas {
            measured.push(Measured { name: service, id: process.pid()?, health: None });
        }
        Ok(measured)
    }

    /// Prints what each replica did.
    async fn print_replicas(&self, offered: &[Offered]) -> anyhow::Result<()> {
        let mut rows = table(&["replica", "answered 201", "p50 ms", "p99 ms", "messages handled"]);
        let mut orders_results = offered.iter();
        for Replica { service, ports, .. } in &self.replicas {
            let handled = handled(ports.health).await?;
            let result = if *service == "orders" { orders_results.next() } else { None };
            let accepted = result.map(|result| result.outcome.of(201));
            let cell = |value: Option<String>| value.unwrap_or_default();
            rows.add_row([
                (*service).to_owned(),
                cell(accepted.as_ref().map(|accepted| accepted.count().to_string())),
                cell(accepted.as_ref().map(|accepted| format!("{:.1}", accepted.ms(0.5)))),
                cell(accepted.as_ref().map(|accepted| format!("{:.1}", accepted.ms(0.99)))),
                handled.to_string(),
            ]);
        }
        println!("{rows}\n");
        Ok(())
    }

    /// Runs a command of `off` as this user of the broker, and returns its standard output. Fails if the command fails.
    async fn off(&self, user: &str, arguments: &[&str], settings: &[(&str, &str)]) -> anyhow::Result<String> {
        let nats_url = self.cluster.url(user);
        let servers = [("DATABASE_URL", &*self.postgres.url), ("NATS_URL", &nats_url)];
        let off = Process::new(find_off()?).arguments(arguments).environment([("OFF_HOME", self.folder.path())]);
        let output = off.environment(servers).environment(settings.iter().copied()).run().await?;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "off {}: {stdout}{stderr}", arguments.join(" "));
        Ok(stdout.into_owned())
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        for replica in self.replicas {
            stop(replica.process).await?;
        }
        self.pool.close().await;
        self.cluster.stop().await?;
        self.postgres.stop().await
    }
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

/// Prints the storage per order in bytes: in Postgres permanently, including indexes, and in the streams for a week.
async fn print_storage(cluster: &Cluster, pool: &PgPool) -> anyhow::Result<()> {
    let bus = cluster.bus().await?;
    let streams = cluster.bytes(&bus).await?;
    bus.close().await;
    let (tables, orders): (i64, i64) = sqlx::query_as(
        "SELECT pg_total_relation_size('orders.product_orders') + pg_total_relation_size('users.deliveries')
                    + pg_total_relation_size('billing.transfers'),
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
    let process = start_off(&["serve", service], &settings)?;
    Ok(Replica { service, ports, process })
}

async fn wait_until_delivered(pool: &PgPool) -> anyhow::Result<()> {
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    let undelivered = "SELECT count(*) FROM orders.unfinished_orders";
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
