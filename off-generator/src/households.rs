//! Registered households of this seed with their people and devices, and a cache of which devices are generated.

use crate::domain::PlannedOrder;
use off_events::{SsdId, UserId};
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

/// A registered household; empty if its registration was rejected.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registered {
    pub(crate) user: Option<UserId>,
    pub(crate) devices: Vec<SsdId>,
}

/// The registered households, and which devices are generated. Clones share their state.
#[derive(Debug, Clone)]
pub(crate) struct Households {
    /// Each household by its number.
    registered: Arc<RwLock<Vec<Registered>>>,
    /// The number of households.
    count: watch::Sender<usize>,
    /// Whether a device is generated, for devices that were low. They may have any seed, or be real.
    is_generated: Arc<RwLock<HashMap<SsdId, bool>>>,
}

impl Households {
    /// No households yet.
    pub(crate) fn new() -> Self {
        Self { registered: Arc::default(), count: watch::Sender::new(0), is_generated: Arc::default() }
    }

    /// Adds the next household.
    pub(crate) fn add(&self, household: Registered) {
        let mut households = self.registered.write().unwrap_or_else(PoisonError::into_inner);
        households.push(household);
        self.count.send_replace(households.len());
    }

    /// The device of an order. Waits for the registration of the household; `None` after a timeout, or if the
    /// registration was rejected.
    pub(crate) async fn wait_for_device(&self, order: &PlannedOrder) -> Option<SsdId> {
        timeout(REGISTRATION_TIMEOUT, self.wait_for_registration(order.household)).await.ok()?;
        let households = self.registered.read().unwrap_or_else(PoisonError::into_inner);
        let devices = &households.get(order.household as usize)?.devices;
        devices.get((order.device as usize).checked_rem(devices.len())?).copied()
    }

    /// The person of a household. Waits for the registration; `None` after a timeout, or if the registration was
    /// rejected.
    pub(crate) async fn wait_for_user(&self, household: u32) -> Option<UserId> {
        timeout(REGISTRATION_TIMEOUT, self.wait_for_registration(household)).await.ok()?;
        let households = self.registered.read().unwrap_or_else(PoisonError::into_inner);
        households.get(household as usize)?.user
    }

    /// Waits for the registration of a household, without a timeout.
    pub(crate) async fn wait_for_registration(&self, household: u32) {
        let mut count = self.count.subscribe();
        // This object has a sender, so the channel is open.
        let _ = count.wait_for(|count| *count > household as usize).await;
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
