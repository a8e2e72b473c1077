//! The households of this seed and their devices, as far as they have registered; and whose other devices are.

use crate::domain::PlannedOrder;
use off_events::SsdId;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// How long an event waits for its household to register.
const REGISTERED_WITHIN: Duration = Duration::from_secs(15);

/// Devices of which it is remembered whose they are.
const MOST_OWNERS: usize = 100_000;

/// Clones share what is known.
#[derive(Debug, Clone)]
pub(crate) struct Households {
    /// The devices of each household by its number; none where it could not register.
    devices: Arc<RwLock<Vec<Vec<SsdId>>>>,
    /// How many households that are.
    count: watch::Sender<usize>,
    /// Whether a device is played here.
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

    /// The device that an order is for; waits a while for the household to register. `None` when it did not.
    pub(crate) async fn device(&self, order: &PlannedOrder) -> Option<SsdId> {
        let number = order.household as usize;
        let mut count = self.count.subscribe();
        timeout(REGISTERED_WITHIN, count.wait_for(|count| *count > number)).await.ok()?.ok()?;
        let known = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let devices = known.get(number)?;
        devices.get((order.device as usize).checked_rem(devices.len())?).copied()
    }

    /// Notes whether `ssd` is played here.
    pub(crate) fn insert_owner(&self, ssd: SsdId, is_own: bool) {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        if owners.len() >= MOST_OWNERS {
            owners.clear();
        }
        owners.insert(ssd, is_own);
    }

    /// Whether `ssd` is played here; `None` when that is not known yet.
    pub(crate) fn is_own(&self, ssd: SsdId) -> Option<bool> {
        self.owners.read().unwrap_or_else(PoisonError::into_inner).get(&ssd).copied()
    }
}
