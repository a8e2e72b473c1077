//! Recovery with millions of stored orders: how soon a lost order is announced again, what recovery costs while no
//! order is overdue, how fast a million overdue orders are announced again, and how much that slows down the intake.
//! Also how long the audit takes under load.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::ensure;
use clap::Parser;
use off_bench::{
    Stage, load,
    proc::processor_time_of,
    program::{self, Finished, start_off},
    report::{at_most, progress, ratio},
    stage::{DEVICES, PRODUCTS, Ports, order_body, wait_until_ready},
    store,
};
use off_events::{Order, streams};
use off_testkit::Process;
use sqlx::PgPool;
use std::{net::SocketAddr, process::Stdio, time::Duration};
use tokio::{process::Command, time::Instant};

/// Orders that one statement inserts.
const INSERT_BATCH: i64 = 500_000;

/// How many times an order is lost.
const ROUNDS: i64 = 5;

/// Orders per second that are completed while recovery is measured without overdue orders.
const COMPLETED_A_SECOND: i64 = 5000;

/// Length of that measurement, in seconds.
const COST_SECONDS: u64 = 60;

/// How often to check whether all orders are announced. With many orders, the check costs Postgres as much as an
/// announcement.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long the intake is loaded, alone and during recovery.
const LENGTH: Duration = Duration::from_secs(15);

/// Connections of that load.
const CONNECTIONS: u64 = 64;

/// Orders per second during the audit.
const RATE_DURING_AUDIT: f64 = 200.0;

#[derive(Debug, Parser)]
struct Options {
    /// Number of stored and delivered orders.
    #[arg(long, default_value_t = 10_000_000)]
    orders: i64,
    /// Number of orders that are overdue at once.
    #[arg(long, default_value_t = 1_000_000)]
    overdue: i64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    stage.seed_data(PRODUCTS, DEVICES).await?;
    store_orders(&stage, options.orders).await?;
    let ports = Ports::free()?;
    // Without waits an order is overdue ten seconds after it was placed.
    let no_waits = [("SUPPLIER_DELAY_MAX", "0s"), ("DELIVERY_DELAY_MAX", "0s")];
    let settings: Vec<_> = stage.settings(&ports).into_iter().chain(no_waits).collect();
    let mut service = start_off(&["serve", "orders"], &settings)?;
    wait_until_ready(ports.health).await?;

    let found = find_lost(&stage).await?;
    let cost_without_overdue = measure_cost_without_overdue(&stage, &service).await?;
    let (seconds, memory) = audit(&stage, ports.address).await?;
    let announced = announce(&stage, ports.address, options.overdue).await?;

    progress("");
    println!("{} orders stored, {} overdue at once\n", options.orders, options.overdue);
    at_most("a lost order is announced again after its deadline, at the latest", found, 15.0, "s");
    at_most("share of a core for recovery at 5,000 completions/s, none overdue", cost_without_overdue, 1.0, "%");
    let Announced { alone, during_intake, placed, limit, limit_during } = announced;
    ratio("overdue orders announced again, against 20,000/s", alone / 20_000.0, 1.0);
    println!("    {alone:.0} per second; {during_intake:.0} with the intake at half its limit of {limit:.0} orders/s");
    ratio("orders placed during that, against those offered", placed, 0.9);
    ratio("limit of the intake during that, against alone", limit_during / limit, 0.9);
    at_most("the audit, with 200 orders/s placed at the same time", seconds, 60.0, "s");
    println!("    its peak memory was {memory:.0} MB");
    service.kill().await?;
    stage.end().await
}

/// Stores completed orders, their transfers and deliveries, and the resulting shelves.
async fn store_orders(stage: &Stage, orders: i64) -> anyhow::Result<()> {
    for first in (0..orders).step_by(usize::try_from(INSERT_BATCH)?) {
        progress(&format!("{first} of {orders} orders are stored"));
        store::store_completed(&stage.db, first, INSERT_BATCH.min(orders - first), DEVICES, PRODUCTS).await?;
    }
    progress("storing transfers, deliveries and shelves");
    store::settle_completed(&stage.db).await?;
    for statement in [
        "INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at)
         SELECT id, ssd_id, barcode, quantity, completed_at FROM orders.product_orders",
        "INSERT INTO users.shelf_items (ssd_id, barcode, quantity, reorder_point)
         SELECT ssd_id, barcode, sum(quantity), 0 FROM users.deliveries GROUP BY ssd_id, barcode",
        "VACUUM ANALYZE",
        "CHECKPOINT",
    ] {
        sqlx::query(statement).execute(&stage.db).await?;
    }
    Ok(store::advance_checkpoints(&stage.db).await?)
}

/// Stores orders without publishing them. Returns the longest time from a deadline to the announcement, in seconds.
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
    complete_all(&stage.db).await?;
    Ok(latest)
}

/// Number of `orders.pending` messages in the stream.
async fn pending_in_stream(stage: &Stage) -> anyhow::Result<u64> {
    stage.bus.count(streams::ORDERS.name, Order::PENDING).await
}

/// Stores `count` pending orders, placed at the SQL expression `placed_at` and overdue after the SQL interval `due_in`.
async fn store_pending(db: &PgPool, count: i64, placed_at: &str, due_in: &str) -> anyhow::Result<()> {
    let statement = format!(
        "INSERT INTO orders.product_orders (id, ssd_id, user_id, barcode, quantity, unit_price, placed_at, deadline)
         SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
                1 + n % {DEVICES}, 1 + n % {DEVICES}, lpad((1 + n % {PRODUCTS})::text, 13, '2000000000000'), 5, 299, date_trunc('milliseconds', at), at + {due_in}
         FROM generate_series(1, {count}) AS n, LATERAL (SELECT {placed_at} AS at) AS time"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(db).await?;
    Ok(())
}

/// Completes, delivers and settles all open orders, and writes their letters, so that the next measurement begins with none. Orders that were stored as
/// completed have ids of 2023 and are skipped.
async fn complete_all(db: &PgPool) -> anyhow::Result<()> {
    for statement in [
        "WITH finished AS (
             UPDATE orders.product_orders
             SET status = 'completed', paid_at = placed_at, shipped_at = placed_at, completed_at = placed_at
             WHERE status <> 'completed' AND id > '01900000-0000-7000-8000-000000000000'
             RETURNING id, ssd_id, user_id, barcode, quantity, unit_price, completed_at
         ), moved AS (
             INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
             SELECT id, kind::billing.transfer_kind, CASE kind WHEN 'charge' THEN user_id ELSE -1 END,
                    CASE kind WHEN 'charge' THEN -1 ELSE -2 END, unit_price * quantity, completed_at
             FROM finished, unnest('{charge,earning}'::text[]) AS kind
         ), told AS (
             INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, written_at)
             SELECT id, kind::letters.letter_kind, user_id, barcode, quantity, unit_price * quantity, completed_at
             FROM finished, unnest('{paid,delivered}'::text[]) AS kind
         ), spent AS (
             UPDATE billing.accounts SET balance = balance - amount
             FROM (SELECT user_id AS payer, sum(unit_price * quantity)::bigint AS amount FROM finished GROUP BY user_id) AS total
             WHERE user_id = payer
         ), delivered AS (
             INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at)
             SELECT id, ssd_id, barcode, quantity, completed_at FROM finished
             RETURNING ssd_id, barcode, quantity
         )
         INSERT INTO users.shelf_items (ssd_id, barcode, quantity, reorder_point)
         SELECT ssd_id, barcode, sum(quantity), 0 FROM delivered GROUP BY ssd_id, barcode
         ON CONFLICT (ssd_id, barcode) DO UPDATE SET quantity = shelf_items.quantity + excluded.quantity",
        "DELETE FROM orders.late_orders",
        "DELETE FROM outbox.messages",
    ] {
        sqlx::query(statement).execute(db).await?;
    }
    Ok(())
}

/// Cost of recovery without overdue orders, in percent of a core: how much more the service and its Postgres backends
/// use while orders are completed than when idle. Recovery only checks each order once.
async fn measure_cost_without_overdue(stage: &Stage, service: &Process) -> anyhow::Result<f64> {
    progress("idle");
    let before = processor_time(stage, service).await?;
    tokio::time::sleep(Duration::from_secs(COST_SECONDS)).await;
    let idle = processor_time(stage, service).await? - before;
    let (before, started) = (processor_time(stage, service).await?, Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for second in 0..COST_SECONDS {
        ticks.tick().await;
        progress(&format!("{COMPLETED_A_SECOND} completions per second, {second} s"));
        // Placed as long ago as the checkpoint lags behind, so that recovery checks them within the same second.
        store_pending(&stage.db, COMPLETED_A_SECOND, "now() - interval '26 s'", "interval '1 h'").await?;
        complete_all(&stage.db).await?;
    }
    let busy = processor_time(stage, service).await? - before;
    let limit = Duration::from_secs(COST_SECONDS + 2);
    ensure!(started.elapsed() < limit, "this machine cannot complete that many orders per second");
    Ok((busy - idle).max(0.0) / COST_SECONDS as f64 * 100.0)
}

/// Processor time of the service and its Postgres backends, in seconds.
async fn processor_time(stage: &Stage, service: &Process) -> anyhow::Result<f64> {
    let ids: Vec<i32> = sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE application_name = 'off-orders'")
        .fetch_all(&stage.db)
        .await?;
    let servers: Vec<f64> =
        ids.into_iter().map(|id| processor_time_of(id.unsigned_abs())).collect::<anyhow::Result<_>>()?;
    Ok(processor_time_of(service.pid()?)? + servers.iter().sum::<f64>())
}

/// Runs the audit while orders are placed; returns its duration in seconds and its peak memory in megabytes. The placed
/// orders are not shipped, but not overdue either.
async fn audit(stage: &Stage, orders: SocketAddr) -> anyhow::Result<(f64, f64)> {
    progress("the audit");
    let placing = tokio::spawn(load::offer(orders, RATE_DURING_AUDIT, Duration::from_secs(8), 64, |number| {
        load::post("/api/orders", order_body(number)?)
    }));
    let mut audit = Command::new(program::find_off()?);
    audit.arg("audit").env("DATABASE_URL", &stage.postgres.url).env("NATS_URL", &stage.nats.url).stdout(Stdio::piped());
    let Finished { seconds, memory, output } = program::run(&mut audit).await?;
    placing.await??;
    complete_all(&stage.db).await?;
    let report = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the audit has findings, but none were expected:\n{report}");
    Ok((seconds, memory))
}

/// Result of announcing many overdue orders.
struct Announced {
    /// Orders per second that are announced again while no order is placed.
    alone: f64,
    /// The same while orders are offered at half the intake's limit.
    during_intake: f64,
    /// Share of the offered orders that were placed during that.
    placed: f64,
    /// Limit of the intake, in orders per second.
    limit: f64,
    /// Limit of the intake while orders are announced again.
    limit_during: f64,
}

async fn announce(stage: &Stage, orders: SocketAddr, overdue: i64) -> anyhow::Result<Announced> {
    progress("the intake alone");
    let limit = measure_intake(orders).await?;
    stage.wait_until_published().await?;
    complete_all(&stage.db).await?;
    progress("storing overdue orders");
    store_pending(&stage.db, overdue, "now() - interval '1 h'", "interval '1 s'").await?;
    let (alone, ()) = announce_all(stage, overdue, async { Ok(()) }).await?;
    let connections = usize::try_from(CONNECTIONS)?;
    let request = |number| load::post("/api/orders", order_body(number)?);
    let half = load::offer(orders, limit / 2.0, LENGTH, connections, request);
    let (during_intake, offered) = announce_all(stage, overdue, half).await?;
    offered.expect_all(201)?;
    let placed = offered.outcome.rate() / (limit / 2.0);
    let (_, limit_during) = announce_all(stage, overdue, measure_intake(orders)).await?;
    progress("the intake alone, again");
    let limit = f64::midpoint(limit, measure_intake(orders).await?);
    Ok(Announced { alone, during_intake, placed, limit, limit_during })
}

/// Lets the service announce all overdue orders again while `load` runs, as after the loss of the broker's store.
/// Returns the orders per second and the result of the load.
async fn announce_all<L>(
    stage: &Stage,
    overdue: i64,
    load: impl Future<Output = anyhow::Result<L>>,
) -> anyhow::Result<(f64, L)> {
    let before = published(stage).await?;
    sqlx::query(
        "INSERT INTO orders.late_orders (order_id, check_at)
         SELECT id, deadline FROM orders.product_orders WHERE status = 'pending' AND deadline < now() - interval '30 min'
         ON CONFLICT (order_id) DO UPDATE SET check_at = excluded.check_at, announcements = 0",
    )
    .execute(&stage.db)
    .await?;
    // Keeps the cost of the inserts out of the measurement.
    for statement in ["VACUUM orders.late_orders", "CHECKPOINT"] {
        sqlx::query(statement).execute(&stage.db).await?;
    }
    progress("announcing the orders again");
    // The service has already announced some of them.
    let (started, left) = (Instant::now(), unannounced(stage).await?);
    let announcing = async {
        let waiting = "SELECT EXISTS (SELECT FROM orders.late_orders WHERE check_at <= now() AND announcements = 0)";
        while sqlx::query_scalar::<_, bool>(waiting).fetch_one(&stage.db).await? {
            ensure!(started.elapsed() < Duration::from_mins(10), "the orders are not announced in time");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        anyhow::Ok(started.elapsed().as_secs_f64())
    };
    let (seconds, outcome) = tokio::try_join!(announcing, load)?;
    let announced = published(stage).await? - before;
    ensure!(announced >= u64::try_from(overdue)?, "only {announced} messages were published");
    Ok((left as f64 / seconds, outcome))
}

/// Number of overdue orders that were not announced yet.
async fn unannounced(stage: &Stage) -> anyhow::Result<i64> {
    let count = "SELECT count(*) FROM orders.late_orders WHERE check_at <= now() AND announcements = 0";
    Ok(sqlx::query_scalar(count).fetch_one(&stage.db).await?)
}

/// Number of messages that were ever stored in the orders' stream.
async fn published(stage: &Stage) -> anyhow::Result<u64> {
    Ok(stage.bus.jetstream.get_stream(streams::ORDERS.name).await?.cached_info().state.last_sequence)
}

/// Limit of the intake in a closed loop, in orders per second.
async fn measure_intake(orders: SocketAddr) -> anyhow::Result<f64> {
    let request = |number| load::post("/api/orders", order_body(number)?);
    let accepted = load::load(orders, CONNECTIONS, LENGTH, request).await?;
    accepted.expect_only(&[201])?;
    Ok(accepted.rate())
}
