//! A service that runs in the process of the test.

use crate::{Http, tokens};
use off_kit::{Clock, Kit, Service, auth, http, telemetry};
use std::sync::Once;

/// A running service, with clients of its API and of its health port. It is asked to stop when dropped.
#[derive(Debug)]
pub struct Running {
    /// A client of its API.
    pub http: Http,
    /// A client of its health port.
    pub health: Http,
    service: off_kit::Running,
}

impl Running {
    /// Starts `S` on a free port and waits until it listens.
    pub async fn start<S: Service>(config: S::Config, clock: Clock) -> Self {
        Self::start_at::<S>(config, clock, 0).await
    }

    /// [`Running::start`] on a given port.
    pub async fn start_at<S: Service>(config: S::Config, clock: Clock, port: u16) -> Self {
        Self::start_with::<S>(config, clock, port, tokens::auth_config()).await
    }

    /// Starts `S`, which verifies access tokens as `auth` says, and waits until it is ready.
    pub async fn start_verifying<S: Service>(config: S::Config, clock: Clock, auth: auth::Config) -> Self {
        let running = Self::start_with::<S>(config, clock, 0, auth).await;
        running.health.wait_until_ready().await;
        running
    }

    async fn start_with<S: Service>(config: S::Config, clock: Clock, port: u16, auth: auth::Config) -> Self {
        start_telemetry();
        let address = http::Config { auth, ..http::Config::on_loopback(port, 0) };
        let kit = Kit::new::<S>(address, clock);
        let service = off_kit::Running::start::<S>(config, kit).await.expect("the service starts");
        let off_kit::Addresses { api, health } = service.addresses();
        Self { http: Http::new(format!("http://{api}")), health: Http::new(format!("http://{health}")), service }
    }

    /// Starts `S` and waits until it is ready.
    pub async fn start_ready<S: Service>(config: S::Config, clock: Clock) -> Self {
        let running = Self::start::<S>(config, clock).await;
        running.health.wait_until_ready().await;
        running
    }

    /// The name of the service.
    pub fn name(&self) -> &'static str {
        self.service.name()
    }

    /// Stops the service gracefully. Panics if one of its tasks failed.
    pub async fn stop(self) {
        self.service.stop().await.expect("the service stops gracefully");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.service.request_stop();
    }
}

/// Initializes telemetry as in a real process, so that trace context is propagated. `RUST_LOG=info` shows the log.
fn start_telemetry() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let log =
            std::env::var_os("RUST_LOG").and_then(|log| log.into_string().ok()).unwrap_or_else(|| "off".to_owned());
        let config =
            telemetry::Config { log_format: Some(telemetry::Format::Pretty), ..telemetry::Config::new(&log, None) };
        telemetry::init("off-test", &config).expect("telemetry starts");
        // Restores the default panic hook, so that the test runner sees panics; the log is off by default.
        drop(std::panic::take_hook());
    });
}
