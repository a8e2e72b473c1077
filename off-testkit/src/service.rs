//! A service that runs inside a test.

use crate::{Http, eventually};
use off_kit::{Addresses, Clock, Kit, Service, Tasks, http, telemetry};
use std::sync::Once;

/// A running service, a client of its API, and one of its health port.
#[derive(Debug)]
pub struct Running {
    pub http: Http,
    pub health: Http,
    tasks: Tasks,
}

impl Running {
    /// Starts `S` on a free port and waits until it listens.
    pub async fn start<S: Service>(config: S::Config, clock: Clock) -> Self {
        Self::start_at::<S>(config, clock, 0).await
    }

    /// The same, on a port of the test's choice.
    pub async fn start_at<S: Service>(config: S::Config, clock: Clock, port: u16) -> Self {
        start_telemetry();
        let address = http::Config::on_loopback(port, 0);
        let kit = Kit::new::<S>(address, clock);
        let (tasks, addresses) = (kit.tasks.clone(), kit.addresses.clone());
        S::start(config, kit).await.expect("the service starts");
        let Addresses { api, health } = *addresses.get().expect("the service listens");
        Self { http: Http::new(format!("http://{api}")), health: Http::new(format!("http://{health}")), tasks }
    }

    /// Starts `S` and waits until it is ready.
    pub async fn start_ready<S: Service>(config: S::Config, clock: Clock) -> Self {
        let running = Self::start::<S>(config, clock).await;
        eventually("the service is ready", || async {
            running.health.get("/readyz").await.status.is_success().then_some(())
        })
        .await;
        running
    }

    /// Stops it in order; fails when a task of it failed.
    pub async fn stop(self) {
        self.tasks.stop();
        self.tasks.stopped().await.expect("the service stops in order");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// Telemetry as in a real process, so that traces are traces; `RUST_LOG=info` shows what the services of a test say.
fn start_telemetry() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let log =
            std::env::var_os("RUST_LOG").and_then(|log| log.into_string().ok()).unwrap_or_else(|| "off".to_owned());
        let config =
            telemetry::Config { log_format: Some(telemetry::Format::Pretty), ..telemetry::Config::new(&log, None) };
        telemetry::init("off-test", &config).expect("telemetry starts");
        // Why a test failed is said where the test runner looks for it, and not in a log that is off.
        drop(std::panic::take_hook());
    });
}
