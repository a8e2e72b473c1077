//! Detects a system that responds but makes no progress. `off doctor` and the live view share these checks.

mod store;

use crate::report::Status;
use anyhow::Context;
use off_events::streams::{self, DEAD_LETTERS, STREAMS};
use off_kit::{Bus, bus::MAX_ACK_PENDING, text::counted};
use off_servers::room_on_disk;
use sqlx::PgPool;
use std::{path::Path, time::Duration};
pub use store::{Overdue, count_overdue};
use tokio::time::timeout;

/// A step that should follow at once and has not happened for this long is stalled.
const STALLED_AFTER: Duration = Duration::from_secs(15);

/// Timeout of each check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The dead letter stream counts as nearly full above this percentage of its maximum size.
const DEAD_LETTERS_FULL_PERCENT: u64 = 90;

/// A disk with less free space than this counts as full.
const MIN_FREE_BYTES: u64 = 1024 * 1024 * 1024;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckResult {
    /// What was checked.
    pub(crate) name: &'static str,
    pub(crate) status: Status,
    /// What was found, and what to do about it.
    pub(crate) detail: String,
}

/// Names of checks.
const UNPUBLISHED: &str = "unpublished";
pub(crate) const CONSUMERS: &str = "consumers";
pub(crate) const DEAD: &str = "dead letters";

/// Runs all checks. A check that cannot be completed in time has failed.
pub(crate) async fn check(db: &PgPool, bus: &Bus) -> Vec<CheckResult> {
    let (unpublished, orders, broker) = tokio::join!(
        with_timeout(UNPUBLISHED, check_unpublished(db)),
        with_timeout("orders", check_orders(db)),
        check_broker(bus)
    );
    [unpublished, orders].into_iter().chain(broker).collect()
}

/// Runs `check` with [`CHECK_TIMEOUT`].
async fn with_timeout(name: &'static str, check: impl Future<Output = anyhow::Result<CheckResult>>) -> CheckResult {
    let detail = match timeout(CHECK_TIMEOUT, check).await {
        Ok(Ok(result)) => return result,
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("Postgres does not answer within {} s", CHECK_TIMEOUT.as_secs()),
    };
    CheckResult { name, status: Status::Failed, detail }
}

async fn check_broker(bus: &Bus) -> Vec<CheckResult> {
    let failed = |detail: String| vec![CheckResult { name: "broker", status: Status::Failed, detail }];
    if !bus.is_connected() {
        return failed("not connected: is NATS running?".to_owned());
    }
    let checks = async { [check_consumers(bus).await, check_streams(bus).await].concat() };
    let no_answer = || failed(format!("JetStream does not answer within {} s", CHECK_TIMEOUT.as_secs()));
    timeout(CHECK_TIMEOUT, checks).await.unwrap_or_else(|_| no_answer())
}

/// Messages of committed facts that the broker has not acknowledged yet.
async fn check_unpublished(db: &PgPool) -> anyhow::Result<CheckResult> {
    let unpublished = store::count_unpublished(db).await.context("cannot query unpublished messages")?;
    let (status, advice) = if unpublished.seconds > STALLED_AFTER.as_secs_f64() {
        let advice = ": is NATS running, is its disk full? A nats-server whose disk was full may need a restart";
        (Status::Failed, advice)
    } else {
        (Status::Healthy, "")
    };
    let detail = match unpublished.count {
        0 => "no unpublished messages".to_owned(),
        count => {
            let messages = counted(count, "message");
            format!("{messages} not acknowledged by the broker, the oldest for {:.0} s{advice}", unpublished.seconds)
        }
    };
    Ok(CheckResult { name: UNPUBLISHED, status, detail })
}

async fn check_orders(db: &PgPool) -> anyhow::Result<CheckResult> {
    let overdue = count_overdue(db, STALLED_AFTER).await.context("cannot query overdue orders")?;
    let (status, detail) = match overdue.count {
        0 => (Status::Healthy, "none is overdue".to_owned()),
        count => (
            Status::Failed,
            format!(
                "{count} overdue, the first for {:.0} s: the orders service announces them again, see `off audit`",
                overdue.seconds
            ),
        ),
    };
    Ok(CheckResult { name: "orders", status, detail })
}

async fn check_consumers(bus: &Bus) -> Vec<CheckResult> {
    let mut results = Vec::new();
    let (mut pending, mut unacknowledged) = (0, 0);
    for consumer in &streams::CONSUMERS {
        let failed = |detail| CheckResult { name: CONSUMERS, status: Status::Failed, detail };
        match bus.backlog(consumer).await {
            Ok(waiting) => {
                pending += waiting.pending;
                unacknowledged += waiting.unacknowledged;
                if waiting.unacknowledged >= MAX_ACK_PENDING.unsigned_abs() {
                    results.push(failed(format!(
                        "{} has {} unacknowledged, which is the limit: look at the log of its service",
                        consumer.name,
                        counted(waiting.unacknowledged, "message")
                    )));
                }
                // Only the generator reads this one, and off runs without it, too.
                let is_optional = *consumer == streams::DEVICES_LOW;
                if !is_optional && waiting.pending > 0 && waiting.pulls == 0 && waiting.unacknowledged == 0 {
                    results.push(failed(format!(
                        "{} has a backlog of {} and no pull request: is its service running?",
                        consumer.name,
                        counted(waiting.pending, "message")
                    )));
                }
            }
            Err(error) => results.push(failed(format!("{error:#}: if the consumer is missing, run `off migrate`"))),
        }
    }
    if results.is_empty() {
        let detail = format!("{} pending, {unacknowledged} unacknowledged", counted(pending, "message"));
        results.push(CheckResult { name: CONSUMERS, status: Status::Healthy, detail });
    }
    results
}

async fn check_streams(bus: &Bus) -> Vec<CheckResult> {
    let mut results = Vec::new();
    let mut sizes = Vec::new();
    for stream in &STREAMS {
        match bus.jetstream.get_stream(stream.name).await {
            Ok(found) => {
                let info = found.cached_info();
                let (bytes, max_bytes) = (info.state.bytes, info.config.max_bytes.max(0).unsigned_abs());
                sizes.push(format!("{} {} of {} MiB", stream.name, bytes >> 20, max_bytes >> 20));
                if *stream == DEAD_LETTERS && info.state.messages > 0 {
                    let is_nearly_full = bytes * 100 >= max_bytes * DEAD_LETTERS_FULL_PERCENT;
                    results.extend(check_dead_letters(bus, is_nearly_full).await);
                }
            }
            Err(error) => results.push(CheckResult {
                name: "streams",
                status: Status::Failed,
                detail: format!("{}: {error}: if the stream is missing, run `off migrate`", stream.name),
            }),
        }
    }
    if sizes.len() == STREAMS.len() {
        results.insert(0, CheckResult { name: "streams", status: Status::Healthy, detail: sizes.join(", ") });
    }
    results
}

/// The dead letters, and whether there is space for more. The stream also has records of those that were dropped.
async fn check_dead_letters(bus: &Bus, is_nearly_full: bool) -> Option<CheckResult> {
    let (status, detail) = match (bus.count(DEAD_LETTERS.name, streams::ALL_DEAD_LETTERS).await, is_nearly_full) {
        (Ok(0), false) => return None,
        (Ok(0), true) => (Status::Failed, format!("{} is nearly full: raise NATS_MAX_MIB", DEAD_LETTERS.name)),
        (Ok(count), _) => {
            let full =
                if is_nearly_full { format!(", and {} is nearly full", DEAD_LETTERS.name) } else { String::new() };
            let advice = "`off dead list` shows why; `off dead replay` publishes one again, `off dead drop` deletes it";
            let status = if is_nearly_full { Status::Failed } else { Status::Warning };
            (status, format!("{} could not be handled{full}: {advice}", counted(count, "message")))
        }
        (Err(error), _) => (Status::Failed, format!("{error:#}")),
    };
    Some(CheckResult { name: DEAD, status, detail })
}

/// Free space on the disk that holds `folder`.
pub(crate) fn check_disk(folder: &Path) -> anyhow::Result<CheckResult> {
    let free = room_on_disk(folder)?;
    let (status, advice) = if free < MIN_FREE_BYTES {
        (Status::Failed, ": free some space, Postgres and NATS stop without it")
    } else {
        (Status::Healthy, "")
    };
    let gib = free as f64 / f64::from(1 << 30);
    Ok(CheckResult { name: "disk", status, detail: format!("{gib:.1} GiB free{advice}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use off_testkit::{Leftover, World};

    #[tokio::test]
    async fn a_record_of_a_dropped_dead_letter_is_no_dead_letter() {
        let world = World::new().await;
        let letter = streams::CONSUMERS[0].dead_subject();
        for (subject, are_there_dead_letters) in [(streams::DEAD_LETTER_DROPPED, false), (&*letter, true)] {
            let jetstream = &world.nats.bus.jetstream;
            jetstream.publish(subject.to_owned(), "{}".into()).await.unwrap().await.unwrap();
            let results = check(&world.database.pool, &world.nats.bus).await;
            assert_eq!(results.iter().any(|result| result.name == DEAD), are_there_dead_letters, "{results:?}");
        }
        world.end_leaving(&[Leftover::DeadLetters]).await;
    }
}
