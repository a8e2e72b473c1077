//! Registers households one after another, so that their ids follow from their numbers: without other registrations in
//! the database, the same seed leads to the same ids.

use crate::{
    App,
    api::ApiError,
    domain::{Household, Kind, find_household_number},
    households::Registered,
    trace::new_span,
};
use off_events::SsdId;
use off_kit::{Tasks, backoff::Backoff};
use std::collections::HashMap;
use tokio::{sync::watch, time::Instant};
use tracing::{Instrument, warn};

/// Registers households until there are as many as are wanted.
#[derive(Debug)]
pub(crate) struct Registrar {
    seed: u64,
    app: App,
    tasks: Tasks,
    /// The number of the next household.
    next: u32,
    /// The newest known device. Devices of registrations whose response was lost have greater ids.
    newest_device: Option<SsdId>,
}

impl Registrar {
    /// Loads the existing households of this seed. Retries until the users service is available.
    pub(crate) async fn load(seed: u64, app: App, tasks: Tasks) -> Self {
        let mut registrar = Self { seed, app, tasks, next: 0, newest_device: None };
        let mut backoff = Backoff::default();
        let mut existing = loop {
            match registrar.list_households().await {
                Ok(households) => break households,
                Err(error) => {
                    warn!("cannot list devices yet, retrying: {error:#}");
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        };
        while let Some(household) = existing.remove(&registrar.next) {
            registrar.add(household);
        }
        registrar
    }

    /// The number of registered households of this seed.
    pub(crate) fn count(&self) -> u32 {
        self.next
    }

    /// Registers households one after another until there are as many as `wanted`; then waits for a greater number.
    pub(crate) async fn run(mut self, mut wanted: watch::Receiver<u32>) -> anyhow::Result<()> {
        let tasks = self.tasks.clone();
        let registrations = async {
            while wanted.wait_for(|wanted| *wanted > self.next).await.is_ok() {
                let household = self.register().instrument(new_span(Kind::Registration.as_str())).await;
                self.add(household);
            }
        };
        tokio::select! {
            () = registrations => tasks.stopping().await,
            () = tasks.stopping() => {}
        }
        Ok(())
    }

    /// Adds the next household.
    fn add(&mut self, household: Registered) {
        self.newest_device = self.newest_device.max(household.devices.last().copied());
        self.app.households.add(household);
        self.next += 1;
    }

    /// Registers the next household, with retries until the service responds. Returns an empty one if it was rejected.
    async fn register(&self) -> Registered {
        let household = Household::new(self.seed, self.next);
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let outcome = self.app.api.register(&household).await;
            self.app.stats.record(Kind::Registration.as_str(), started.elapsed(), &outcome);
            let result = match outcome {
                Err(rejection @ ApiError::Rejected { .. }) => self.find_household(&rejection).await,
                other => other,
            };
            match result {
                Ok(household) => return household,
                Err(error) => warn!("registration of household {} failed, retrying: {error:#}", self.next),
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// The next household after its registration was rejected. An earlier attempt may have succeeded although its
    /// response was lost; otherwise it is empty.
    async fn find_household(&self, rejection: &ApiError) -> Result<Registered, ApiError> {
        let mut households = self.list_households().await?;
        Ok(households.remove(&self.next).unwrap_or_else(|| {
            warn!("household {} is skipped, its registration was rejected: {rejection}", self.next);
            Registered::default()
        }))
    }

    /// The households of this seed by their numbers, as far as their devices are newer than the newest known device.
    async fn list_households(&self) -> Result<HashMap<u32, Registered>, ApiError> {
        let mut households: HashMap<u32, Registered> = HashMap::new();
        let mut cursor = self.newest_device;
        loop {
            let page = self.app.api.list_devices(cursor).await?;
            for device in page.devices {
                if let Some(number) = find_household_number(self.seed, &device.mac_address) {
                    let household = households.entry(number).or_default();
                    household.user = Some(device.user_id);
                    household.devices.push(device.ssd_id);
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(households);
            }
        }
    }
}
