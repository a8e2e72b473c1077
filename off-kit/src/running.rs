//! A service that runs in this process, beside others.

use crate::{Addresses, Kit, Service, Tasks};
use anyhow::Context;

/// A running service.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    addresses: Addresses,
    tasks: Tasks,
}

impl Running {
    /// Starts `S` on `kit`; returns once it listens. Fails if it does not start, for example because of its settings.
    pub async fn start<S: Service>(config: S::Config, kit: Kit) -> anyhow::Result<Self> {
        let (tasks, addresses) = (kit.tasks.clone(), kit.addresses.clone());
        S::start(config, kit).await.with_context(|| format!("{} did not start", S::NAME))?;
        let addresses = *addresses.get().with_context(|| format!("{} does not listen", S::NAME))?;
        Ok(Self { name: S::NAME, addresses, tasks })
    }

    /// The name of the service.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where its API and its health port listen.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Whether it is stopping, by request or because one of its tasks ended.
    pub fn is_stopping(&self) -> bool {
        self.tasks.is_stopping()
    }

    /// Completes when the service begins to stop.
    pub async fn stopping(&self) {
        self.tasks.stopping().await;
    }

    /// Asks the service to stop, and does not wait.
    pub fn request_stop(&self) {
        self.tasks.stop();
    }

    /// Asks the service to stop, and waits until its tasks have finished their work. Fails if one of them failed.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.tasks.stop();
        self.tasks.stopped().await
    }
}
