//! Whether a system that answers also moves on: `off doctor` and the live view say the same of it.

use crate::report::counted;
use anyhow::Context;
use off_events::streams::{self, DEAD_LETTERS, STREAMS, Stream};
use off_kit::{Bus, bus::MAX_ACK_PENDING, servers::room_on_disk};
use sqlx::PgPool;
use std::{path::Path, time::Duration};
use tokio::time::timeout;

/// What waits longer than this for a step that should follow at once is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// How long each part may take to answer.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// How full the dead letters may be, in hundredths, and how little room a disk may have, in bytes.
const DEAD_LETTERS_FULL: u64 = 90;
const LITTLE_ROOM: u64 = 1024 * 1024 * 1024;

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) what: &'static str,
    pub(crate) state: State,
    /// What is so, and what to do about it.
    pub(crate) detail: String,
}

/// The names of what the broker has yet to acknowledge, of what waits at it, and of what nobody could handle.
const UNPUBLISHED: &str = "unpublished";
pub(crate) const CONSUMERS: &str = "consumers";
pub(crate) const DEAD: &str = "dead letters";

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Well,
    /// A person should look at it; nothing stands still because of it.
    Noteworthy,
    Stuck,
}

impl From<bool> for State {
    fn from(is_well: bool) -> Self {
        if is_well { Self::Well } else { Self::Stuck }
    }
}

/// Everything that tells of motion. What does not answer in time is stuck.
pub(crate) async fn look(db: &PgPool, bus: &Bus) -> Vec<Finding> {
    let (unpublished, orders, broker) = tokio::join!(
        within(UNPUBLISHED, look_at_unpublished(db)),
        within("orders", look_at_orders(db)),
        look_at_broker(bus)
    );
    [unpublished, orders].into_iter().chain(broker).collect()
}

/// What `look` finds of one thing, within two seconds.
async fn within(what: &'static str, look: impl Future<Output = anyhow::Result<Finding>>) -> Finding {
    let detail = match timeout(LOOK_WITHIN, look).await {
        Ok(Ok(finding)) => return finding,
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("Postgres does not answer within {} s", LOOK_WITHIN.as_secs()),
    };
    Finding { what, state: State::Stuck, detail }
}

async fn look_at_broker(bus: &Bus) -> Vec<Finding> {
    let stuck = |detail: String| vec![Finding { what: "broker", state: State::Stuck, detail }];
    if !bus.is_connected() {
        return stuck("not connected: is NATS running?".to_owned());
    }
    let look = async { [look_at_consumers(bus).await, look_at_streams(bus).await].concat() };
    let no_answer = || stuck(format!("JetStream does not answer within {} s", LOOK_WITHIN.as_secs()));
    timeout(LOOK_WITHIN, look).await.unwrap_or_else(|_| no_answer())
}

/// Facts that were committed and whose message the broker has yet to acknowledge.
async fn look_at_unpublished(db: &PgPool) -> anyhow::Result<Finding> {
    let waiting = sqlx::query!(
        r#"SELECT count(*) AS "count!", coalesce(extract(epoch FROM now() - min(occurred_at)), 0)::float8 AS "seconds!"
           FROM (SELECT occurred_at FROM outbox.messages
                 UNION ALL
                 SELECT placed_at FROM orders.late_orders JOIN orders.product_orders ON id = order_id WHERE unpublished)
                AS waiting"#
    );
    let waiting = waiting.fetch_one(db).await.context("cannot look for unpublished messages")?;
    let (state, advice) = if waiting.seconds > STUCK_AFTER.as_secs_f64() {
        let advice = ": is NATS up, and has its disk room? A nats-server whose disk was full may need a restart";
        (State::Stuck, advice)
    } else {
        (State::Well, "")
    };
    let detail = match waiting.count {
        0 => "no message waits for the broker".to_owned(),
        count => {
            let messages = counted(count, "message");
            format!("{messages} waiting for the broker, the oldest for {:.0} s{advice}", waiting.seconds)
        }
    };
    Ok(Finding { what: UNPUBLISHED, state, detail })
}

/// Orders whose next step did not happen by its deadline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overdue {
    pub(crate) count: i64,
    /// How long ago the first deadline was, in seconds.
    seconds: f64,
}

/// The orders that are overdue for longer than this. Only late orders are before the last checkpoint.
pub(crate) async fn find_overdue(db: &PgPool, longer_than: Duration) -> sqlx::Result<Overdue> {
    let overdue = sqlx::query_as!(
        Overdue,
        r#"WITH checked AS MATERIALIZED (SELECT through FROM orders.checkpoints WHERE status = 'shipped'),
                under_way AS (
                    SELECT id, status, due_at FROM orders.product_orders WHERE id > (SELECT through FROM checked)
                    UNION ALL
                    SELECT id, status, due_at FROM orders.late_orders JOIN orders.product_orders ON id = order_id
                    WHERE order_id <= (SELECT through FROM checked)
                )
           SELECT count(*) AS "count!", coalesce(extract(epoch FROM now() - min(due_at)), 0)::float8 AS "seconds!"
           FROM under_way
           WHERE due_at < now() - make_interval(secs => $1)
             AND (status <> 'completed' OR NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = id))"#,
        longer_than.as_secs_f64(),
    );
    overdue.fetch_one(db).await
}

async fn look_at_orders(db: &PgPool) -> anyhow::Result<Finding> {
    let overdue = find_overdue(db, STUCK_AFTER).await.context("cannot look for overdue orders")?;
    let (state, detail) = match overdue.count {
        0 => (State::Well, "none is overdue".to_owned()),
        count => (
            State::Stuck,
            format!(
                "{count} overdue, the first for {:.0} s: the orders service announces them again; `off audit` lists them",
                overdue.seconds
            ),
        ),
    };
    Ok(Finding { what: "orders", state, detail })
}

async fn look_at_consumers(bus: &Bus) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut pending, mut in_hand) = (0, 0);
    for consumer in &streams::CONSUMERS {
        let stuck = |detail| Finding { what: CONSUMERS, state: State::Stuck, detail };
        match bus.waiting(consumer).await {
            Ok(waiting) => {
                pending += waiting.pending;
                in_hand += waiting.in_hand;
                if waiting.in_hand >= MAX_ACK_PENDING.unsigned_abs() {
                    findings.push(stuck(format!(
                        "{} has given out {} and none comes back: look at the log of its service",
                        consumer.name,
                        counted(waiting.in_hand, "message")
                    )));
                }
                if waiting.pending > 0 && waiting.pulls == 0 && waiting.in_hand == 0 {
                    findings.push(stuck(format!(
                        "nobody takes what waits for {} ({}): is its service running?",
                        consumer.name,
                        counted(waiting.pending, "message")
                    )));
                }
            }
            Err(error) => findings.push(stuck(format!("{error:#}: if it is missing, run `off migrate`"))),
        }
    }
    if findings.is_empty() {
        let detail = format!("{} waiting for them, {in_hand} being handled", counted(pending, "message"));
        findings.push(Finding { what: CONSUMERS, state: State::Well, detail });
    }
    findings
}

async fn look_at_streams(bus: &Bus) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut held = Vec::new();
    for stream in &STREAMS {
        match bus.jetstream.get_stream(stream.name).await {
            Ok(found) => {
                let info = found.cached_info();
                let (bytes, most) = (info.state.bytes, info.config.max_bytes.max(0).unsigned_abs());
                held.push(format!("{} {} of {} MiB", stream.name, bytes >> 20, most >> 20));
                if *stream == DEAD_LETTERS && info.state.messages > 0 {
                    findings.push(dead_letters(stream, info.state.messages, bytes * 100 >= most * DEAD_LETTERS_FULL));
                }
            }
            Err(error) => findings.push(Finding {
                what: "streams",
                state: State::Stuck,
                detail: format!("{}: {error}: if it is missing, run `off migrate`", stream.name),
            }),
        }
    }
    if held.len() == STREAMS.len() {
        findings.insert(0, Finding { what: "streams", state: State::Well, detail: held.join(", ") });
    }
    findings
}

fn dead_letters(stream: &Stream, count: u64, is_full: bool) -> Finding {
    let advice = "`off dead list` shows why; `off dead replay` sends one again, `off dead drop` takes it away";
    let (state, full) = if is_full {
        (State::Stuck, format!(" and {} is nearly full", stream.name))
    } else {
        (State::Noteworthy, String::new())
    };
    Finding { what: DEAD, state, detail: format!("{} nobody could handle{full}: {advice}", counted(count, "message")) }
}

/// The disk with this folder.
pub(crate) fn look_at_disk(folder: &Path) -> anyhow::Result<Finding> {
    let room = room_on_disk(folder)?;
    let (state, advice) = if room < LITTLE_ROOM {
        (State::Stuck, ": make room, Postgres and NATS stop without it")
    } else {
        (State::Well, "")
    };
    Ok(Finding { what: "disk", state, detail: format!("{:.1} GiB free{advice}", room as f64 / LITTLE_ROOM as f64) })
}
