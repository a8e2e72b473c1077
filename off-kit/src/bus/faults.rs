//! The failure switches: a key-value bucket, which services read once a second if they allow them.
//!
//! A service asks for all entries with one request. A watcher would be a consumer of each service, which needs more
//! permissions, and is lost when the connection is.

use super::{Bus, Config};
use crate::Kit;
use anyhow::Context;
use chrono::{DateTime, Utc};
use off_events::faults::{BUCKET, BUCKET_STREAM, BUCKET_SUBJECTS, Fault, FaultKind};
use serde_json::json;
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tracing::{debug, warn};

/// How often the bucket is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// The header of an entry that was deleted.
const OPERATION: &str = "KV-Operation";

/// The switches that are on in this process. Clones share them. Empty in a process that does not allow them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<RwLock<Vec<Arc<Fault>>>>);

impl Faults {
    /// The switch of this kind, if it is on at `now`.
    pub fn find(&self, kind: FaultKind, now: DateTime<Utc>) -> Option<Arc<Fault>> {
        let faults = self.0.read().unwrap_or_else(PoisonError::into_inner);
        faults.iter().find(|fault| fault.kind == kind && fault.until > now).cloned()
    }

    /// Replaces all switches.
    pub fn replace(&self, faults: Vec<Fault>) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_same = current.len() == faults.len() && current.iter().zip(&faults).all(|(one, other)| **one == *other);
        if !is_same {
            warn!("the failure switches have changed: {} are on", faults.len());
            *current = faults.into_iter().map(Arc::new).collect();
        }
    }
}

/// Spawns the task that keeps the switches of `bus` up to date, if the settings allow them.
pub fn follow(kit: &Kit, bus: &Bus, config: &Config) {
    if !config.allow_faults {
        return;
    }
    let bus = bus.clone();
    let mut every = kit.tasks.every(kit.clock.shortened(INTERVAL));
    kit.tasks.spawn("faults", async move {
        while every.tick().await {
            // Without a connection the request would only wait.
            if !bus.is_connected() {
                continue;
            }
            match list(&bus).await {
                Ok(faults) => bus.faults.replace(faults),
                // The switches stay as they are until they end.
                Err(error) => debug!("cannot read the failure switches: {error:#}"),
            }
        }
        Ok(())
    });
}

/// All switches in the bucket, also those that have ended by themselves.
pub async fn list(bus: &Bus) -> anyhow::Result<Vec<Fault>> {
    let request = json!({"multi_last": [BUCKET_SUBJECTS], "batch": FaultKind::ALL.len() * 2});
    let entries = bus.direct_get(BUCKET_STREAM, &request).await?;
    let existing = entries.into_iter().filter(|entry| !entry.headers.iter().any(|(name, _)| name == OPERATION));
    // Another version may have other kinds.
    let mut faults: Vec<Fault> = existing.filter_map(|entry| serde_json::from_slice(&entry.body).ok()).collect();
    faults.sort_by_key(|fault| fault.kind);
    Ok(faults)
}

/// Switches a failure on, in place of one of the same kind.
pub async fn set(bus: &Bus, fault: &Fault) -> anyhow::Result<()> {
    let bucket = bus.jetstream.get_key_value(BUCKET).await.context("cannot find the bucket of the failure switches")?;
    let body = serde_json::to_vec(fault)?;
    bucket.put(fault.kind.as_str(), body.into()).await.context("cannot store the failure switch")?;
    Ok(())
}

/// Switches a failure off.
pub async fn clear(bus: &Bus, kind: FaultKind) -> anyhow::Result<()> {
    let bucket = bus.jetstream.get_key_value(BUCKET).await.context("cannot find the bucket of the failure switches")?;
    bucket.purge(kind.as_str()).await.context("cannot delete the failure switch")?;
    Ok(())
}
