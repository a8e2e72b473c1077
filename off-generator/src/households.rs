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
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum number of devices in the cache of generated devices.
const MAX_CACHED: usize = 100_000;

/// The registered households, and which devices are generated. Clones share their state.
#[derive(Debug, Clone)]
pub(crate) struct Households {
    /// The devices of each household by its number; empty if its registration was rejected.
    devices: Arc<RwLock<Vec<Vec<SsdId>>>>,
    /// The number of households.
    count: watch::Sender<usize>,
    /// Whether a device is generated, for devices that were low. They may have any seed, or be real.
    is_generated: Arc<RwLock<HashMap<SsdId, bool>>>,
}

impl Households {
    /// No households yet.
    pub(crate) fn new() -> Self {
        Self { devices: Arc::default(), count: watch::Sender::new(0), is_generated: Arc::default() }
    }

    /// Adds the next household, with its devices.
    pub(crate) fn add(&self, devices: Vec<SsdId>) {
        let mut households = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        households.push(devices);
        self.count.send_replace(households.len());
    }

    /// The device of an order. Waits for the registration of the household; `None` after a timeout, or if the
    /// registration was rejected.
    pub(crate) async fn wait_for_device(&self, order: &PlannedOrder) -> Option<SsdId> {
        let number = order.household as usize;
        let mut count = self.count.subscribe();
        timeout(REGISTRATION_TIMEOUT, count.wait_for(|count| *count > number)).await.ok()?.ok()?;
        let households = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let devices = households.get(number)?;
        devices.get((order.device as usize).checked_rem(devices.len())?).copied()
    }

    /// Caches whether a device is generated.
    pub(crate) fn cache_is_generated(&self, ssd_id: SsdId, is_generated: bool) {
        let mut cache = self.is_generated.write().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(ssd_id, is_generated);
    }

    /// Whether a device is generated; `None` if that is not cached.
    pub(crate) fn is_generated(&self, ssd_id: SsdId) -> Option<bool> {
        self.is_generated.read().unwrap_or_else(PoisonError::into_inner).get(&ssd_id).copied()
    }
}
