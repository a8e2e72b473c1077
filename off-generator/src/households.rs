//! The devices the generator plays, as far as it has heard of them.

use off_events::SsdId;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// Clones speak of the same devices.
#[derive(Debug, Clone, Default)]
pub(crate) struct Households(Arc<RwLock<Known>>);

#[derive(Debug, Default)]
struct Known {
    own: Devices,
    /// Devices of others, so that each is asked about once.
    foreign: HashSet<SsdId>,
    /// Own devices on whose shelf something was put.
    stocked: Devices,
}

/// A set that can be drawn from.
#[derive(Debug, Default)]
struct Devices {
    set: HashSet<SsdId>,
    list: Vec<SsdId>,
}

impl Devices {
    fn insert(&mut self, ssd: SsdId) {
        if self.set.insert(ssd) {
            self.list.push(ssd);
        }
    }
}

impl Households {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert_own(&self, ssd: SsdId) {
        self.write().own.insert(ssd);
    }

    pub(crate) fn insert_foreign(&self, ssd: SsdId) {
        self.write().foreign.insert(ssd);
    }

    /// Something was put on the shelf of `ssd`, whoever's that is.
    pub(crate) fn insert_delivery(&self, ssd: SsdId) {
        let mut known = self.write();
        if known.own.set.contains(&ssd) {
            known.stocked.insert(ssd);
        }
    }

    /// Whether `ssd` is played here; `None` when that is not known yet.
    pub(crate) fn is_own(&self, ssd: SsdId) -> Option<bool> {
        let known = self.read();
        if known.own.set.contains(&ssd) { Some(true) } else { known.foreign.contains(&ssd).then_some(false) }
    }

    /// A device someone may eat from: one with something on its shelf, or any while none is known to have.
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng) -> Option<SsdId> {
        let known = self.read();
        known.stocked.list.choose(rng).or_else(|| known.own.list.choose(rng)).copied()
    }
}
