//! Periodic work while the system is up: the heartbeat, and streams and consumers that were deleted.

use crate::home::Home;
use off_kit::{Bus, bus};
use std::{convert::Infallible, time::Duration};
use tokio::time::Instant;
use tracing::warn;

/// How often to write the heartbeat, and to check for deleted streams and consumers.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Calls `action` at once and then every [`POLL_INTERVAL`].
async fn periodically(mut action: impl AsyncFnMut()) -> Infallible {
    loop {
        action().await;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Writes the heartbeat periodically, from the time `from` on.
pub(super) async fn write_heartbeats(home: &Home, from: Instant) -> Infallible {
    periodically(async || write_heartbeat(home, from)).await
}

/// Writes the heartbeat, unless the time `from` is in the future.
pub(super) fn write_heartbeat(home: &Home, from: Instant) {
    if Instant::now() >= from {
        home.write_heartbeat();
    }
}

/// Periodically recreates streams and consumers that were deleted. Their messages are recovered from Postgres.
pub(super) async fn recreate_deleted(bus: &Bus, storage: bus::StreamStorage) -> Infallible {
    periodically(async || recreate_missing(bus, storage).await).await
}

/// Recreates streams and consumers that are missing.
async fn recreate_missing(bus: &Bus, storage: bus::StreamStorage) {
    if !bus.is_connected() {
        return;
    }
    let missing = bus::find_missing(bus).await;
    if missing.is_empty() {
        return;
    }
    warn!("recreating {}", missing.join(", "));
    if let Err(error) = bus::declare(bus, storage).await {
        warn!("cannot recreate streams and consumers, will retry: {error:#}");
    }
}
