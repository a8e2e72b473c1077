//! Registers households, one after the other, so that their ids follow from their numbers: in a database that nobody else registers
//! in, the same seed brings the same ids.

use crate::{
    App,
    api::ApiError,
    domain::{Household, Kind, find_number},
};
use off_events::SsdId;
use off_kit::{Tasks, backoff::Backoff, telemetry};
use std::collections::HashMap;
use tokio::{sync::watch, time::Instant};
use tracing::{Instrument, info_span, warn};

/// Registers as many households as are wanted.
#[derive(Debug)]
pub(crate) struct Registrar {
    seed: u64,
    app: App,
    tasks: Tasks,
    /// The next household's number.
    next: u32,
    /// The newest device that is known. Those that registered without an answer come after it.
    newest: Option<SsdId>,
}

impl Registrar {
    /// Learns which households of this seed exist already. Waits for the users service as long as it takes.
    pub(crate) async fn meet(seed: u64, app: App, tasks: Tasks) -> Self {
        let mut registrar = Self { seed, app, tasks, next: 0, newest: None };
        let mut backoff = Backoff::default();
        let mut known = loop {
            match registrar.list_households().await {
                Ok(known) => break known,
                Err(error) => {
                    warn!("the users service does not answer yet: {error:#}");
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        };
        while let Some(devices) = known.remove(&registrar.next) {
            registrar.insert(devices);
        }
        registrar
    }

    /// How many households of this seed exist.
    pub(crate) fn known(&self) -> u32 {
        self.next
    }

    /// Registers one household after the other, as long as more are wanted.
    pub(crate) async fn run(mut self, mut wanted: watch::Receiver<u32>) -> anyhow::Result<()> {
        let tasks = self.tasks.clone();
        let registering = async {
            while wanted.wait_for(|wanted| *wanted > self.next).await.is_ok() {
                let job = Kind::Registration.as_str();
                let span = info_span!("job", otel.name = format!("job.{job}"), trace_id = tracing::field::Empty);
                telemetry::continue_trace(&span, None);
                let devices = self.register().instrument(span).await;
                self.insert(devices);
            }
        };
        tokio::select! {
            () = registering => tasks.stopping().await,
            () = tasks.stopping() => {}
        }
        Ok(())
    }

    fn insert(&mut self, devices: Vec<SsdId>) {
        self.newest = self.newest.max(devices.last().copied());
        self.app.households.insert(devices);
        self.next += 1;
    }

    /// Registers the next household, and tries again until there is an answer; its devices, or none where it is refused.
    async fn register(&mut self) -> Vec<SsdId> {
        let household = Household::new(self.seed, self.next);
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let outcome = self.app.api.register(&household).await;
            self.app.stats.note(Kind::Registration.as_str(), started.elapsed(), &outcome);
            let refused = match outcome {
                Ok(devices) => return devices,
                Err(refused @ ApiError::Refused { .. }) => refused,
                Err(ApiError::Unavailable(error)) => {
                    warn!("household {} could not register yet: {error:#}", self.next);
                    tokio::time::sleep(backoff.pause()).await;
                    continue;
                }
            };
            // An earlier attempt may have been stored without an answer.
            match self.list_households().await {
                Ok(mut known) => {
                    return known.remove(&self.next).unwrap_or_else(|| {
                        warn!("household {} takes no part: {refused}", self.next);
                        Vec::new()
                    });
                }
                Err(error) => {
                    warn!("the users service does not answer: {error:#}");
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        }
    }

    /// The households of this seed with devices behind the newest one that is known.
    async fn list_households(&self) -> Result<HashMap<u32, Vec<SsdId>>, ApiError> {
        let mut households: HashMap<u32, Vec<SsdId>> = HashMap::new();
        let mut cursor = self.newest;
        loop {
            let page = self.app.api.list_devices(cursor).await?;
            for device in page.devices {
                if let Some(number) = find_number(self.seed, &device.mac_address) {
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
