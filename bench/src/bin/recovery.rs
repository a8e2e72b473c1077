//! Recovery with millions of stored orders: how soon a lost order is announced again, what looking for lost ones costs while there are
//! none, how fast a million overdue orders are announced and what that takes from the intake; and how long the audit takes under load.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use anyhow::{Context, ensure};
use clap::Parser;
use off_bench::{
    Program, Stage, load,
    program::{highest_memory_of, processor_time_of},
    report::{at_most, progress, ratio},
    stage::{PRODUCTS, Ports, SSDS, wait_until_ready, wish},
};
use off_events::{Order, streams};
use sqlx::PgPool;
use std::{net::SocketAddr, process::Stdio, time::Duration};
use tokio::time::Instant;

/// Orders that are stored with one statement.
const CHUNK: i64 = 500_000;

/// How often an order is lost.
const ROUNDS: i64 = 5;

/// Orders that are completed in a second while recovery is measured at rest, and for how long.
const COMPLETED_A_SECOND: i64 = 5000;
const AT_REST: u64 = 60;

/// How often it is looked whether all are announced: that costs Postgres as much as an announcement where many are.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long the intake is loaded, over so many connections, alone and beside recovery.
const LENGTH: Duration = Duration::from_secs(15);
const CONNECTIONS: u64 = 64;

/// Orders a second beside the audit.
const BESIDE_AUDIT: f64 = 200.0;

#[derive(Debug, Parser)]
struct Options {
    /// Orders that are stored and delivered.
    #[arg(long, default_value_t = 10_000_000)]
    orders: i64,
    /// Orders that are overdue at once.
    #[arg(long, default_value_t = 1_000_000)]
    overdue: i64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    stage.settle(PRODUCTS, SSDS).await?;
    store(&stage, options.orders).await?;
    let ports = Ports::free()?;
    // Without waits an order is overdue ten seconds after it was placed.
    let no_waits = [("SUPPLIER_DELAY_MAX", "0s"), ("DELIVERY_DELAY_MAX", "0s")];
    let settings: Vec<_> = stage.settings(&ports).into_iter().chain(no_waits).collect();
    let service = Program::start(&["serve", "orders"], &settings)?;
    wait_until_ready(ports.health).await?;

    let found = find_lost(&stage).await?;
    let at_rest = rest(&stage, &service).await?;
    let (seconds, memory) = audit(&stage, ports.address).await?;
    let announced = announce(&stage, ports.address, options.overdue).await?;

    progress("");
    println!("{} orders stored, {} overdue at once\n", options.orders, options.overdue);
    at_most("a lost order is announced again after its deadline, at the latest", found, 15.0, "s");
    at_most("a core's share for recovery, 5,000 completions/s, none overdue", at_rest, 1.0, "%");
    let Announced { alone, beside, placed, limit, limit_beside } = announced;
    ratio("overdue orders announced again, against 20,000 a second", alone / 20_000.0, 1.0);
    println!("    {alone:.0} a second; {beside:.0} beside an intake at half its limit of {limit:.0} orders/s");
    ratio("orders placed beside that, against those offered", placed, 0.9);
    ratio("intake at its limit beside that, against alone", limit_beside / limit, 0.9);
    at_most("the audit, with 200 orders/s placed meanwhile", seconds, 60.0, "s");
    println!("    and held {memory:.0} MB at most");
    service.kill().await?;
    stage.end().await
}

/// Stores orders that were delivered, each with its delivery, and the shelves that they fill.
async fn store(stage: &Stage, orders: i64) -> anyhow::Result<()> {
    for first in (0..orders).step_by(usize::try_from(CHUNK)?) {
        progress(&format!("{first} of {orders} orders are stored"));
        stage.store_completed(first, CHUNK.min(orders - first), SSDS, PRODUCTS).await?;
    }
    progress("storing deliveries and shelves");
    for statement in [
        "INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at)
         SELECT id, ssd_id, barcode, quantity, completed_at FROM orders.product_orders",
        "INSERT INTO users.product_ssds (ssd_id, barcode, quantity, reorder_point)
         SELECT ssd_id, barcode, sum(quantity), 0 FROM users.deliveries GROUP BY ssd_id, barcode",
        "VACUUM ANALYZE",
        "CHECKPOINT",
    ] {
        sqlx::query(statement).execute(&stage.db).await?;
    }
    stage.pass_checkpoints().await
}

/// Stores orders that nobody was told of; how long after its deadline the last one was announced, in seconds.
async fn find_lost(stage: &Stage) -> anyhow::Result<f64> {
    let mut latest: f64 = 0.0;
    for round in 1..=ROUNDS {
        progress(&format!("losing an order, {round} of {ROUNDS}"));
        let before = pending_in_stream(stage).await?;
        store_pending(&stage.db, 1, "now()", "interval '10 s'").await?;
        let lost_at = Instant::now();
        while pending_in_stream(stage).await? == before {
            ensure!(lost_at.elapsed() < Duration::from_mins(2), "the lost order is not found");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        latest = latest.max(lost_at.elapsed().as_secs_f64() - 10.0);
    }
    finish_all(&stage.db).await?;
    Ok(latest)
}

/// Messages that were ever published on `orders.pending`, as far as the stream has them.
async fn pending_in_stream(stage: &Stage) -> anyhow::Result<u64> {
    stage.bus.count(streams::ORDERS.name, Order::PENDING).await
}

/// Stores `count` pending orders, a microsecond after another and all placed at `placed_at`, with this time until they are overdue.
async fn store_pending(db: &PgPool, count: i64, placed_at: &str, due_in: &str) -> anyhow::Result<()> {
    let statement = format!(
        "INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at, due_at)
         SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
                1 + n % {SSDS}, lpad((1 + n % {PRODUCTS})::text, 13, '2000000000000'), 5, date_trunc('milliseconds', at), at + {due_in}
         FROM generate_series(1, {count}) AS n, LATERAL (SELECT {placed_at} AS at) AS time"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(db).await?;
    Ok(())
}

/// Delivers all orders that are under way, so that the next part begins with none. Those that were stored as delivered have ids of
/// 2023, and are not read.
async fn finish_all(db: &PgPool) -> anyhow::Result<()> {
    for statement in [
        "WITH finished AS (
             UPDATE orders.product_orders SET status = 'completed', shipped_at = placed_at, completed_at = placed_at
             WHERE status <> 'completed' AND id > '01900000-0000-7000-8000-000000000000'
             RETURNING id, ssd_id, barcode, quantity, completed_at
         ), delivered AS (
             INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at) SELECT * FROM finished
             RETURNING ssd_id, barcode, quantity
         )
         INSERT INTO users.product_ssds (ssd_id, barcode, quantity, reorder_point)
         SELECT ssd_id, barcode, sum(quantity), 0 FROM delivered GROUP BY ssd_id, barcode
         ON CONFLICT (ssd_id, barcode) DO UPDATE SET quantity = product_ssds.quantity + excluded.quantity",
        "DELETE FROM orders.late_orders",
        "DELETE FROM outbox.messages",
    ] {
        sqlx::query(statement).execute(db).await?;
    }
    Ok(())
}

/// The share of a core, in hundredths, that the service and its connections take more while orders are completed than while nothing
/// happens: looking over them once is all there is to do.
async fn rest(stage: &Stage, service: &Program) -> anyhow::Result<f64> {
    progress("at rest");
    let before = used(stage, service).await?;
    tokio::time::sleep(Duration::from_secs(AT_REST)).await;
    let idle = used(stage, service).await? - before;
    let (before, started) = (used(stage, service).await?, Instant::now());
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    for second in 0..AT_REST {
        beat.tick().await;
        progress(&format!("at rest, {second} s of {COMPLETED_A_SECOND} completions a second"));
        // As old as checkpoints are behind: they are looked over in the same second.
        store_pending(&stage.db, COMPLETED_A_SECOND, "now() - interval '26 s'", "interval '1 h'").await?;
        finish_all(&stage.db).await?;
    }
    let busy = used(stage, service).await? - before;
    ensure!(started.elapsed() < Duration::from_secs(AT_REST + 2), "this machine cannot complete so many a second");
    Ok((busy - idle).max(0.0) / AT_REST as f64 * 100.0)
}

/// The processor time of the service and of its connections' servers, in seconds.
async fn used(stage: &Stage, service: &Program) -> anyhow::Result<f64> {
    let ids: Vec<i32> = sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE application_name = 'off-orders'")
        .fetch_all(&stage.db)
        .await?;
    let servers: Vec<f64> =
        ids.into_iter().map(|id| processor_time_of(id.unsigned_abs())).collect::<anyhow::Result<_>>()?;
    Ok(service.processor_time()? + servers.iter().sum::<f64>())
}

/// Runs the audit while orders are placed; seconds it took, and megabytes it held. What is placed is not shipped here, and not overdue
/// either.
async fn audit(stage: &Stage, orders: SocketAddr) -> anyhow::Result<(f64, f64)> {
    progress("the audit");
    let path = std::env::current_exe()?.with_file_name("off");
    let started = Instant::now();
    let audit = tokio::process::Command::new(&path)
        .arg("audit")
        .env("DATABASE_URL", &stage.postgres.url)
        .env("NATS_URL", &stage.nats.url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} is not there: ./run doctor builds it", path.display()))?;
    let id = audit.id().context("the audit has ended")?;
    let mut ended = Box::pin(audit.wait_with_output());
    let mut memory: f64 = 0.0;
    let placing = tokio::spawn(load::offer(orders, BESIDE_AUDIT, Duration::from_secs(8), 64, |number| {
        load::post("/api/orders", wish(number)?)
    }));
    let output = loop {
        tokio::select! {
            output = &mut ended => break output?,
            () = tokio::time::sleep(Duration::from_millis(50)) => memory = memory.max(highest_memory_of(id).unwrap_or(0.0)),
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    placing.await??;
    finish_all(&stage.db).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the audit found what is not there:\n{said}");
    Ok((seconds, memory))
}

/// What came of many orders that were overdue at once.
struct Announced {
    /// Orders announced again in a second while none is placed, and while half of what the intake takes at most is offered.
    alone: f64,
    beside: f64,
    /// Orders that were placed meanwhile, as a share of those offered.
    placed: f64,
    /// What the intake takes at most, and what it takes beside them.
    limit: f64,
    limit_beside: f64,
}

async fn announce(stage: &Stage, orders: SocketAddr, overdue: i64) -> anyhow::Result<Announced> {
    progress("the intake alone");
    let limit = take(orders).await?;
    stage.wait_until_carried().await?;
    finish_all(&stage.db).await?;
    progress("storing overdue orders");
    store_pending(&stage.db, overdue, "now() - interval '1 h'", "interval '1 s'").await?;
    let (alone, ()) = announce_all(stage, overdue, async { Ok(()) }).await?;
    let connections = usize::try_from(CONNECTIONS)?;
    let half = load::offer(orders, limit / 2.0, LENGTH, connections, |number| load::post("/api/orders", wish(number)?));
    let (beside, offered) = announce_all(stage, overdue, half).await?;
    offered.expect_all(201)?;
    let placed = offered.outcome.rate() / (limit / 2.0);
    let (_, limit_beside) = announce_all(stage, overdue, take(orders)).await?;
    progress("the intake alone, once more");
    let limit = f64::midpoint(limit, take(orders).await?);
    Ok(Announced { alone, beside, placed, limit, limit_beside })
}

/// Announces all overdue orders again beside `load`, as after the loss of the broker's store; how many in a second, and what
/// came of the load.
async fn announce_all<L>(
    stage: &Stage,
    overdue: i64,
    load: impl Future<Output = anyhow::Result<L>>,
) -> anyhow::Result<(f64, L)> {
    let before = published(stage).await?;
    sqlx::query(
        "INSERT INTO orders.late_orders (order_id, check_at)
         SELECT id, due_at FROM orders.product_orders WHERE status = 'pending' AND due_at < now() - interval '30 min'
         ON CONFLICT (order_id) DO UPDATE SET check_at = excluded.check_at, announcements = 0",
    )
    .execute(&stage.db)
    .await?;
    // What it takes to store them is no part of announcing them.
    for statement in ["VACUUM orders.late_orders", "CHECKPOINT"] {
        sqlx::query(statement).execute(&stage.db).await?;
    }
    progress("announcing them again");
    // The service announced some of them since they were stored.
    let (started, left) = (Instant::now(), unannounced(stage).await?);
    let announcing = async {
        let waiting = "SELECT EXISTS (SELECT FROM orders.late_orders WHERE check_at <= now() AND announcements = 0)";
        while sqlx::query_scalar::<_, bool>(waiting).fetch_one(&stage.db).await? {
            ensure!(started.elapsed() < Duration::from_mins(10), "they are not announced");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        anyhow::Ok(started.elapsed().as_secs_f64())
    };
    let (seconds, outcome) = tokio::try_join!(announcing, load)?;
    let announced = published(stage).await? - before;
    ensure!(announced >= u64::try_from(overdue)?, "only {announced} messages were published");
    Ok((left as f64 / seconds, outcome))
}

/// Overdue orders that were not announced yet.
async fn unannounced(stage: &Stage) -> anyhow::Result<i64> {
    let count = "SELECT count(*) FROM orders.late_orders WHERE check_at <= now() AND announcements = 0";
    Ok(sqlx::query_scalar(count).fetch_one(&stage.db).await?)
}

/// Messages that were ever stored in the orders' stream.
async fn published(stage: &Stage) -> anyhow::Result<u64> {
    Ok(stage.bus.jetstream.get_stream(streams::ORDERS.name).await?.cached_info().state.last_sequence)
}

async fn take(orders: SocketAddr) -> anyhow::Result<f64> {
    let taken = load::load(orders, CONNECTIONS, LENGTH, |number| load::post("/api/orders", wish(number)?)).await?;
    taken.expect_only(&[201])?;
    Ok(taken.rate())
}
