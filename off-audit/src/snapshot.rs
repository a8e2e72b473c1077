//! What a round of the audit reads.

use super::store;
use anyhow::Context;
use chrono::{DateTime, Utc};
use off_events::streams;
use off_kit::Bus;
use sqlx::{PgPool, Postgres, Transaction};

/// The system at one moment: every query of `tx` sees the same rows.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) tx: Transaction<'static, Postgres>,
    /// By the clock of the database.
    pub(super) taken_at: DateTime<Utc>,
    /// The orders of all events up to this sequence number must be in the snapshot.
    pub(super) newest_event: u64,
    /// How many events of the broker were compared with it.
    pub(super) events_read: u64,
}

impl Snapshot {
    pub(super) async fn take(db: &PgPool, bus: &Bus) -> anyhow::Result<Self> {
        // Before the snapshot: an order is committed before its event is published.
        let newest_event = newest_event(bus).await?;
        let mut tx = store::begin_snapshot(db).await?;
        let taken_at = store::read_time(&mut tx).await?;
        Ok(Self { tx, taken_at, newest_event, events_read: 0 })
    }
}

/// The sequence number of the newest event of an order.
async fn newest_event(bus: &Bus) -> anyhow::Result<u64> {
    let name = streams::ORDERS.name;
    let stream = bus.jetstream.get_stream(name).await.with_context(|| format!("cannot read stream {name}"))?;
    Ok(stream.cached_info().state.last_sequence)
}
