//! Runs all services in one process.

use anyhow::Context;
use clap::{Args, Command};
use futures::future::select_all;
use off_kit::{Addresses, Clock, Kit, Listeners, Running, Service, auth, http};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::sleep;

/// How often to ask whether a service is ready.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The services that run in this process, in start order.
#[derive(Debug)]
pub(crate) struct System {
    services: Vec<Running>,
    hosts: http::Hosts,
    auth: auth::Config,
}

/// The settings of `C` from the environment, as in a separate process; `arguments` take precedence.
pub(crate) fn settings<C: Args>(arguments: &[(&str, String)]) -> anyhow::Result<C> {
    let args = arguments.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]);
    let matches = C::augment_args(Command::new("off").no_binary_name(true)).try_get_matches_from(args)?;
    Ok(C::from_arg_matches(&matches)?)
}

/// Listens on `port` of the loopback interface, or on any free port if it is in use. Services get the listener and not
/// the port, because another `off up` that starts at the same time may take the port.
fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl System {
    /// A system without services; the services that are started later accept requests to `hosts`, with tokens that
    /// `auth` verifies.
    pub(crate) fn new(hosts: http::Hosts, auth: auth::Config) -> Self {
        Self { services: Vec::new(), hosts, auth }
    }

    /// Verifies the tokens of the services that are started from now on with the keys at this address of the auth
    /// service.
    pub(crate) fn verify_with(&mut self, auth: SocketAddr) -> anyhow::Result<()> {
        self.auth.auth_jwks_url = format!("http://{auth}/.well-known/jwks.json").parse()?;
        Ok(())
    }

    /// Starts `S` on its default ports, or on free ones if those are in use; returns its addresses.
    pub(crate) async fn start<S: Service>(&mut self, config: S::Config, clock: &Clock) -> anyhow::Result<Addresses> {
        let http = http::Config {
            hosts: self.hosts.clone(),
            auth: self.auth.clone(),
            ..http::Config::on_loopback(S::PORT, S::HEALTH_PORT)
        };
        let mut kit = Kit::new::<S>(http, *clock);
        let listeners = Listeners { api: Some(listen(S::PORT)?), health: Some(listen(S::HEALTH_PORT)?) };
        kit.listeners = Arc::new(Mutex::new(listeners));
        let service = Running::start::<S>(config, kit).await?;
        let addresses = service.addresses();
        self.services.push(service);
        Ok(addresses)
    }

    /// Waits until all services are ready, or until the time is up: a service that is not keeps trying.
    pub(crate) async fn wait_until_ready(&self, timeout: Duration) {
        let all_ready = async {
            for service in &self.services {
                while http::ask_whether_ready(service.addresses().health).await.is_err() {
                    sleep(POLL_INTERVAL).await;
                }
            }
        };
        // What is not ready yet is in the log and in `off status`.
        let _ = tokio::time::timeout(timeout, all_ready).await;
    }

    pub(crate) fn services(&self) -> &[Running] {
        &self.services
    }

    /// Whether a service has stopped without being asked to.
    pub(crate) fn has_stopped_by_itself(&self) -> bool {
        self.services.iter().any(Running::is_stopping)
    }

    /// Completes when a service stops without being asked to, which is a failure.
    pub(crate) async fn stops_by_itself(&self) {
        if self.services.is_empty() {
            return std::future::pending().await;
        }
        select_all(self.services.iter().map(|service| Box::pin(service.stopping()))).await;
    }

    /// Stops the services in reverse start order; each finishes its current work. Returns the first error.
    pub(crate) async fn stop(&mut self, mut on_stopped: impl FnMut(&str)) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(service) = self.services.pop() {
            let stopped = service.stop().await.with_context(|| format!("{} failed", service.name()));
            on_stopped(service.name());
            outcome = outcome.and(stopped);
        }
        outcome
    }
}
