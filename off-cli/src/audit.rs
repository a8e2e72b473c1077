//! `off audit`: proves from the rows in Postgres that every order is accounted for.
//!
//! An order is accounted for when it is delivered, or when the deadline of its next step is not yet past. What the broker
//! holds is shown and proves nothing, with one exception: an order that the broker speaks of and Postgres does not know was
//! lost by Postgres.
//!
//! In a system that was stopped, deadlines are compared with the time it last ran: nobody could keep them since.
//!
//! A running system is never still, and what is overdue is recovered. So whatever is found is looked for again until
//! patience ends, and only what was found every time is reported.

mod broker;
mod checks;
mod report;

use crate::home::Home;
use broker::BrokerContents;
use chrono::{DateTime, Utc};
use off_kit::{Bus, print_line};
use serde::Serialize;
use sqlx::PgPool;
use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::Duration,
};
use tokio::time::Instant;

/// The pause between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// What the command ends with when it could not look at everything.
const COULD_NOT_LOOK: u8 = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long something may stay wrong before it is a finding: what is overdue is recovered meanwhile.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Prints the result as one JSON document.
    #[arg(long)]
    json: bool,
}

/// One thing that has to be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Check {
    Orders,
    History,
    Deliveries,
    Shelves,
    Outbox,
    Broker,
}

/// Something that is not as it has to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: Check,
    /// Which order, shelf or message: the same at every look.
    about: String,
    pub(crate) text: String,
}

/// What came of an audit.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    /// When the first look began, by the clock of the database.
    began_at: DateTime<Utc>,
    /// What deadlines are compared with where nothing runs: when the system last ran, less the patience.
    as_of: Option<DateTime<Utc>>,
    counts: checks::Counts,
    broker: BrokerContents,
    pub(crate) findings: BTreeSet<Finding>,
}

/// Ends with 1 when there are findings, and with 2 when it could not look.
pub(crate) async fn run(home: &Home, options: &Options) -> ExitCode {
    match audit_home(home, options).await {
        Ok(audit) if audit.findings.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: the audit could not look at everything: {error:#}");
            ExitCode::from(COULD_NOT_LOOK)
        }
    }
}

async fn audit_home(home: &Home, options: &Options) -> anyhow::Result<Audit> {
    let visit = home.visit().await?;
    let audit = if visit.is_of_stopped_system() {
        // Nothing changes while nothing runs, and what was overdue for a moment as it stopped is recovered at its next start.
        let as_of = home.last_ran_at().map(|stopped_at| stopped_at - options.patience);
        audit(&visit.db, &visit.bus, Duration::ZERO, as_of).await
    } else {
        audit(&visit.db, &visit.bus, options.patience, None).await
    };
    visit.end().await?;
    let audit = audit?;
    if options.json {
        print_line!("{}", serde_json::to_string_pretty(&audit)?);
    } else {
        report::print(&audit);
    }
    Ok(audit)
}

/// Looks at everything, and then at what is wrong until it is right or patience ends.
pub(crate) async fn audit(
    db: &PgPool,
    bus: &Bus,
    patience: Duration,
    as_of: Option<DateTime<Utc>>,
) -> anyhow::Result<Audit> {
    let began_at = checks::database_time(db).await?;
    let mut findings = BTreeSet::new();
    for check in Check::ALL {
        findings.extend(check.run(db, bus, as_of).await?);
    }
    // The first look may take longer than patience lasts.
    let deadline = Instant::now() + patience;
    while !findings.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(POLL_INTERVAL).await;
        let failed: BTreeSet<Check> = findings.iter().map(|finding| finding.check).collect();
        let mut again = BTreeMap::new();
        for check in failed {
            let found = check.run(db, bus, as_of).await?;
            again.extend(found.into_iter().map(|finding| ((finding.check, finding.about.clone()), finding)));
        }
        findings = findings.into_iter().filter_map(|finding| again.remove(&(finding.check, finding.about))).collect();
    }
    let (counts, broker) = (checks::count(db).await?, BrokerContents::read(bus).await?);
    Ok(Audit { began_at, as_of, counts, broker, findings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use off_kit::Clock;
    use off_testkit::World;

    #[tokio::test]
    async fn in_a_stopped_system_only_what_was_overdue_then_is_a_finding() {
        let world = World::new().await;
        world.add_device().await;
        sqlx::raw_sql(
            "INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at, due_at)
             VALUES ('01890a5d-ac97-774b-bcce-b302099a8058', 1, '2000000000015', 1, '2023-06-30 03:34:18.519Z',
                     now() - interval '1 h');
             INSERT INTO users.product_ssds (ssd_id, barcode, quantity, reorder_point, low_since, remind_at)
             VALUES (1, '2000000000015', 0, 2, now() - interval '1 h', now() - interval '1 h');
             INSERT INTO outbox.messages (source, subject, message_id, body, occurred_at)
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
    }

    #[tokio::test]
    async fn a_shelf_stays_wrong_though_what_it_holds_changes_meanwhile() {
        let world = World::new().await;
        world.add_device().await;
        let db = world.database.pool.clone();
        sqlx::raw_sql(
            "INSERT INTO users.product_ssds (ssd_id, barcode, quantity, reorder_point) VALUES (1, '2000000000015', 9, 2)",
        )
        .execute(&db)
        .await
        .unwrap();
        let eating = tokio::spawn(async move {
            for number in 0.. {
                sqlx::query(
                    "WITH eaten AS (INSERT INTO users.consumptions VALUES (1, $1, '2000000000015', 1, 0, now()))
                     UPDATE users.product_ssds SET quantity = 9 + $2",
                )
                .bind(number.to_string())
                .bind(number)
                .execute(&db)
                .await
                .unwrap();
            }
        });
        let audit = audit(&world.database.pool, &world.nats.bus, Duration::from_secs(2), None).await.unwrap();
        eating.abort();
        assert_eq!(audit.findings.len(), 1, "{:?}", audit.findings);
    }
}
