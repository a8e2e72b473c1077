//! A service that runs inside a test.

use crate::{Http, eventually};
use off_kit::{Clock, Kit, Service, Tasks, http};
use std::{net::Ipv4Addr, sync::Once};

/// A running service and a client of it.
#[derive(Debug)]
pub struct Running {
    pub http: Http,
    tasks: Tasks,
}

impl Running {
    /// Starts `S` on a free port and waits until it listens.
    pub async fn start<S: Service>(config: S::Config, clock: Clock) -> Self {
        log_when_asked();
        let address = http::Config { http_service_host: Ipv4Addr::LOCALHOST.into(), http_service_port: 0 };
        let kit = Kit::new::<S>(address, clock);
        let (tasks, address) = (kit.tasks.clone(), kit.address.clone());
        S::start(config, kit).await.expect("the service starts");
        let address = *address.get().expect("the service listens");
        Self { http: Http::new(format!("http://{address}")), tasks }
    }

    /// Starts `S` and waits until it is ready.
    pub async fn start_ready<S: Service>(config: S::Config, clock: Clock) -> Self {
        let running = Self::start::<S>(config, clock).await;
        eventually("the service is ready", || async {
            running.http.get("/readyz").await.status.is_success().then_some(())
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

/// `RUST_LOG=info` shows what the services of a test say.
fn log_when_asked() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // Another test of the process may have been first.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    });
}
