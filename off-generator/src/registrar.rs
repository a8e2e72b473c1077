//! Registers households one after another, so that their ids follow from their numbers: without other registrations in
//! the database, the same seed leads to the same ids.

use crate::{
    App,
    api::ApiError,
    domain::{Household, Kind, find_household_number},
};
use off_events::SsdId;
use off_kit::{Tasks, backoff::Backoff, telemetry};
use std::collections::HashMap;
use tokio::{sync::watch, time::Instant};
use tracing::{Instrument, info_span, warn};

/// Registers the requested number of households.
#[derive(Debug)]
pub(crate) struct Registrar {
    seed: u64,
    app: App,
    tasks: Tasks,
    /// The number of the next household.
    next: u32,
    /// The newest known device. Devices of registrations whose response was lost have greater ids.
    newest: Option<SsdId>,
}

impl Registrar {
    /// Loads the existing households of this seed. Retries until the users service is available.
    pub(crate) async fn load(seed: u64, app: App, tasks: Tasks) -> Self {
        let mut registrar = Self { seed, app, tasks, next: 0, newest: None };
        let mut backoff = Backoff::default();
        let mut known = loop {
            match registrar.list_households().await {
                Ok(known) => break known,
                Err(error) => {
                    warn!("cannot list devices yet, retrying: {error:#}");
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        };
        while let Some(devices) = known.remove(&registrar.next) {
            registrar.insert(devices);
        }
        registrar
    }

    /// The number of existing households of this seed.
    pub(crate) fn known(&self) -> u32 {
        self.next
    }

    /// Registers households one after another until there are as many as `wanted`; then waits for a greater number.
    pub(crate) async fn run(mut self, mut wanted: watch::Receiver<u32>) -> anyhow::Result<()> {
        let tasks = self.tasks.clone();
        let registrations = async {
            while wanted.wait_for(|wanted| *wanted > self.next).await.is_ok() {
                let job = Kind::Registration.as_str();
                let span = info_span!("job", otel.name = format!("job.{job}"), trace_id = tracing::field::Empty);
                telemetry::continue_trace(&span, None);
                let devices = self.register().instrument(span).await;
                self.insert(devices);
            }
        };
        tokio::select! {
            () = registrations => tasks.stopping().await,
            () = tasks.stopping() => {}
        }
        Ok(())
    }

    fn insert(&mut self, devices: Vec<SsdId>) {
        self.newest = self.newest.max(devices.last().copied());
        self.app.households.insert(devices);
        self.next += 1;
    }

    /// Registers the next household, with retries until the service responds. Returns its devices; none if it was
    /// rejected.
    async fn register(&mut self) -> Vec<SsdId> {
        let household = Household::new(self.seed, self.next);
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let outcome = self.app.api.register(&household).await;
            self.app.stats.record(Kind::Registration.as_str(), started.elapsed(), &outcome);
            let rejection = match outcome {
                Ok(devices) => return devices,
                Err(rejection @ ApiError::Refused { .. }) => rejection,
                Err(ApiError::Unavailable(error)) => {
                    warn!("registration of household {} failed, retrying: {error:#}", self.next);
                    tokio::time::sleep(backoff.pause()).await;
                    continue;
                }
            };
            // An earlier attempt may have succeeded although its response was lost.
            match self.list_households().await {
                Ok(mut known) => {
                    return known.remove(&self.next).unwrap_or_else(|| {
                        warn!("household {} is skipped, its registration was rejected: {rejection}", self.next);
                        Vec::new()
                    });
                }
                Err(error) => {
                    warn!("cannot list devices, retrying: {error:#}");
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        }
    }

    /// The households of this seed with devices newer than the newest known one.
    async fn list_households(&self) -> Result<HashMap<u32, Vec<SsdId>>, ApiError> {
        let mut households: HashMap<u32, Vec<SsdId>> = HashMap::new();
        let mut cursor = self.newest;
        loop {
            let page = self.app.api.list_devices(cursor).await?;
            for device in page.devices {
                if let Some(number) = find_household_number(self.seed, &device.mac_address) {
                    households.entry(number).or_default().push(device.ssd_id);
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(households);
            }
        }
    }
}
