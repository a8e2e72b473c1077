//! Registered households of this seed with their devices, and a cache of which devices are generated.

use crate::domain::PlannedOrder;
use off_events::SsdId;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// How long an event waits for the registration of its household.
const REGISTERED_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum number of cached devices.
const MAX_OWNERS: usize = 100_000;

/// Clones share their state.
#[derive(Debug, Clone)]
pub(crate) struct Households {
    /// The devices of each household by its number; empty if its registration was rejected.
    devices: Arc<RwLock<Vec<Vec<SsdId>>>>,
    /// The number of households.
    count: watch::Sender<usize>,
    /// Whether a device is generated.
    owners: Arc<RwLock<HashMap<SsdId, bool>>>,
}

impl Households {
    pub(crate) fn new() -> Self {
        Self { devices: Arc::default(), count: watch::Sender::new(0), owners: Arc::default() }
    }

    /// Adds the next household.
    pub(crate) fn insert(&self, devices: Vec<SsdId>) {
        let mut known = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        known.push(devices);
        self.count.send_replace(known.len());
    }

    /// The device of an order. Waits for the registration of the household; `None` after a timeout.
    pub(crate) async fn device(&self, order: &PlannedOrder) -> Option<SsdId> {
        let number = order.household as usize;
        let mut count = self.count.subscribe();
        timeout(REGISTERED_TIMEOUT, count.wait_for(|count| *count > number)).await.ok()?.ok()?;
        let known = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let devices = known.get(number)?;
        devices.get((order.device as usize).checked_rem(devices.len())?).copied()
    }

    /// Caches whether `ssd` is generated.
    pub(crate) fn insert_owner(&self, ssd: SsdId, is_own: bool) {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        if owners.len() >= MAX_OWNERS {
            owners.clear();
        }
        owners.insert(ssd, is_own);
    }

    /// Whether `ssd` is generated; `None` if that is not cached.
    pub(crate) fn is_own(&self, ssd: SsdId) -> Option<bool> {
        self.owners.read().unwrap_or_else(PoisonError::into_inner).get(&ssd).copied()
    }
}
