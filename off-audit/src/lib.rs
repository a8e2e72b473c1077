//! Proves from the rows in Postgres that every order is accounted for, and so is all money.
//!
//! An order is accounted for if it is done, or if the deadline of its next step has not passed. The contents of
//! the broker are shown but are no proof, with one exception: if the broker has an order that Postgres does not have,
//! then Postgres lost it, and if it has another price there, then one of the two was changed.
//!
//! All checks of a round read one snapshot, so that they compare the rows of the same moment.
//!
//! In a stopped system, deadlines are compared with the time it last ran, because it could not meet them since.
//!
//! A running system changes all the time, and recovers overdue orders. So each finding is checked again until
//! `patience` has elapsed, and only what was found every time is reported.

mod broker;
mod checks;
mod finding;
mod report;
mod snapshot;
mod store;

pub use broker::{BrokerContents, ConsumerContents, StreamContents};
pub use finding::{Check, Finding};
pub use report::Line;

use chrono::{DateTime, Utc};
use off_kit::Bus;
use serde::Serialize;
use snapshot::Snapshot;
use sqlx::PgPool;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// The pause between two checks of a finding.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The result of an audit.
#[derive(Debug, Clone, Serialize)]
pub struct Audit {
    /// When the first snapshot was taken, by the clock of the database.
    pub began_at: DateTime<Utc>,
    /// How long all checks of the first snapshot took.
    pub seconds: f64,
    /// For a stopped system, the time that deadlines are compared with: when it last ran, minus `patience`.
    pub as_of: Option<DateTime<Utc>>,
    /// What the first snapshot has.
    counts: store::Counts,
    /// How many events of the broker were compared with it.
    events_read: u64,
    /// What the broker has.
    pub broker: BrokerContents,
    /// The violations; empty if every order is accounted for.
    pub findings: BTreeSet<Finding>,
}

/// Runs all checks, then repeats those with findings until the findings are gone or `patience` has elapsed. Deadlines
/// are compared with `as_of`, or with the current time if it is `None`. Fails if a check could not be completed.
pub async fn audit(db: &PgPool, bus: &Bus, patience: Duration, as_of: Option<DateTime<Utc>>) -> anyhow::Result<Audit> {
    let started = Instant::now();
    let mut snapshot = Snapshot::take(db, bus).await?;
    let counts = store::count_rows(&mut snapshot.tx).await?;
    let mut findings = BTreeSet::new();
    for check in Check::ALL {
        findings.extend(check.run(&mut snapshot, bus, as_of).await?);
    }
    let (began_at, events_read) = (snapshot.taken_at, snapshot.events_read);
    snapshot.tx.rollback().await?;
    let seconds = started.elapsed().as_secs_f64();
    // Starts after the first round, which may take longer than `patience`.
    let deadline = Instant::now() + patience;
    while !findings.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(POLL_INTERVAL).await;
        findings = check_again(findings, db, bus, as_of).await?;
    }
    let broker = BrokerContents::read(bus).await?;
    Ok(Audit { began_at, seconds, as_of, counts, events_read, broker, findings })
}

/// Runs the checks with findings once more, in a new snapshot. Returns what was found again.
async fn check_again(
    findings: BTreeSet<Finding>,
    db: &PgPool,
    bus: &Bus,
    as_of: Option<DateTime<Utc>>,
) -> anyhow::Result<BTreeSet<Finding>> {
    let failed: BTreeSet<Check> = findings.iter().map(|finding| finding.check).collect();
    let mut snapshot = Snapshot::take(db, bus).await?;
    let mut again = BTreeMap::new();
    for check in failed {
        let found = check.run(&mut snapshot, bus, as_of).await?;
        again.extend(found.into_iter().map(|finding| ((finding.check, finding.about.clone()), finding)));
    }
    snapshot.tx.rollback().await?;
    Ok(findings.into_iter().filter_map(|finding| again.remove(&(finding.check, finding.about))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use off_events::{Order, headers::NATS_MSG_ID};
    use off_kit::Clock;
    use off_testkit::{Leftover, World};
    use sqlx::postgres::PgPoolOptions;

    #[tokio::test]
    async fn deadlines_are_compared_with_as_of() {
        let world = World::new().await;
        world.add_device().await;
        sqlx::raw_sql(
            "INSERT INTO orders.product_orders (id, ssd_id, user_id, barcode, quantity, unit_price, placed_at, deadline)
             VALUES ('01890a5d-ac97-774b-bcce-b302099a8058', 1, 1, '2000000000015', 1, 299, '2023-06-30 03:34:18.519Z',
                     now() - interval '1 h');
             INSERT INTO users.shelf_items (ssd_id, barcode, quantity, reorder_point, low_since, remind_at)
             VALUES (1, '2000000000015', 0, 2, now() - interval '1 h', now() - interval '1 h');
             INSERT INTO outbox.messages (source, subject, event_id, body, occurred_at)
             VALUES ('users', 'users.registered', 'registered:1', '{}', now() - interval '1 h')",
        )
        .execute(&world.database.pool)
        .await
        .unwrap();
        let now = Clock::real(1.0).now();
        for (as_of, findings) in
            [(None, 3), (Some(now - Duration::from_mins(30)), 3), (Some(now - Duration::from_mins(90)), 0)]
        {
            let audit = audit(&world.database.pool, &world.nats.bus, Duration::ZERO, as_of).await.unwrap();
            assert_eq!(audit.findings.len(), findings, "{as_of:?}: {:?}", audit.findings);
        }
        world.end_leaving(&[Leftover::OutboxRows]).await;
    }

    #[tokio::test]
    async fn a_wrong_shelf_stays_a_finding_while_its_quantity_changes() {
        let world = World::new().await;
        world.add_device().await;
        let db = world.database.pool.clone();
        sqlx::raw_sql(
            "INSERT INTO users.shelf_items (ssd_id, barcode, quantity, reorder_point) VALUES (1, '2000000000015', 9, 2)",
        )
        .execute(&db)
        .await
        .unwrap();
        let consumption = tokio::spawn(async move {
            for number in 0.. {
                sqlx::query(
                    "WITH eaten AS (INSERT INTO users.consumptions VALUES (1, $1, '2000000000015', 1, 0, now()))
                     UPDATE users.shelf_items SET quantity = 9 + $2",
                )
                .bind(number.to_string())
                .bind(number)
                .execute(&db)
                .await
                .unwrap();
            }
        });
        let audit = audit(&world.database.pool, &world.nats.bus, Duration::from_secs(2), None).await.unwrap();
        consumption.abort();
        assert_eq!(audit.findings.len(), 1, "{:?}", audit.findings);
        world.end().await;
    }

    #[tokio::test]
    async fn a_snapshot_shows_one_moment_and_cannot_write() {
        let world = World::new().await;
        world.add_device().await;
        // Like the sessions of a service.
        let pool = PgPoolOptions::new()
            .after_connect(|conn, _| {
                Box::pin(async move {
                    sqlx::raw_sql("SET enable_hashjoin = off; SET statement_timeout = '15s'")
                        .execute(conn)
                        .await
                        .map(drop)
                })
            })
            .connect(&world.database.url)
            .await
            .unwrap();
        let mut snapshot = Snapshot::take(&pool, &world.nats.bus).await.unwrap();
        sqlx::query("INSERT INTO billing.accounts (user_id, balance) VALUES (1, 100)")
            .execute(&world.database.pool)
            .await
            .unwrap();
        let counts = store::count_rows(&mut snapshot.tx).await.unwrap();
        assert_eq!((counts.accounts, counts.balances), (0, 0));
        let hash_joins: String = sqlx::query_scalar("SHOW enable_hashjoin").fetch_one(&mut *snapshot.tx).await.unwrap();
        assert_eq!(hash_joins, "on");
        let timeout: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(&mut *snapshot.tx).await.unwrap();
        assert_eq!(timeout, "10min");
        let written = sqlx::query("DELETE FROM billing.accounts").execute(&mut *snapshot.tx).await;
        assert!(written.unwrap_err().to_string().contains("read-only"));
        drop(snapshot);
        pool.close().await;
        let audit = audit(&world.database.pool, &world.nats.bus, Duration::ZERO, None).await.unwrap();
        assert_eq!(audit.counts.accounts, 1);
        world.end().await;
    }

    #[tokio::test]
    async fn an_order_that_is_published_after_the_snapshot_is_no_finding() {
        let world = World::new().await;
        world.add_device().await;
        let publish = async |id: &str| {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert(NATS_MSG_ID, format!("{id}:pending").as_str());
            world.nats.publish_with_headers(Order::PENDING, headers, "{}").await;
        };
        publish("01890a5d-ac96-774b-bcce-b302099a8057").await;
        let mut snapshot = Snapshot::take(&world.database.pool, &world.nats.bus).await.unwrap();
        publish("01890a5d-ac97-774b-bcce-b302099a8058").await;
        let findings = Check::Broker.run(&mut snapshot, &world.nats.bus, None).await.unwrap();
        let about: Vec<_> = findings.iter().map(|finding| finding.about.as_str()).collect();
        assert_eq!(about, ["order 01890a5d-ac96-774b-bcce-b302099a8057"]);
        assert_eq!(snapshot.events_read, 1);
        drop(snapshot);
        world.end().await;
    }
}
