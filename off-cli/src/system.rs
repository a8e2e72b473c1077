//! All services in one process.

use anyhow::Context;
use clap::{Args, Command};
use futures::future::select_all;
use off_kit::{Addresses, Clock, Kit, Listeners, Service, Tasks, http};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

/// Services that run in this process, in the order in which they were started.
#[derive(Debug)]
pub(crate) struct System {
    services: Vec<Started>,
    hosts: http::Hosts,
}

/// A service that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) name: &'static str,
    pub(crate) addresses: Addresses,
    tasks: Tasks,
}

/// The settings of `C`: from the environment, as in a program of its own, with `arguments` before all.
pub(crate) fn settings<C: Args>(arguments: &[(&str, String)]) -> anyhow::Result<C> {
    let words = arguments.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]);
    let matches = C::augment_args(Command::new("off").no_binary_name(true)).try_get_matches_from(words)?;
    Ok(C::from_arg_matches(&matches)?)
}

/// Listens on `port`, or on any that is free. A listener is handed over instead of a port, because another `off up` that
/// starts now may want the same one.
fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl System {
    /// No service yet; those that come answer to `hosts`.
    pub(crate) fn new(hosts: http::Hosts) -> Self {
        Self { services: Vec::new(), hosts }
    }

    /// Starts `S` on its own ports, or on any that are free where those are taken; says where its API is.
    pub(crate) async fn start<S: Service>(&mut self, config: S::Config, clock: &Clock) -> anyhow::Result<SocketAddr> {
        let http = http::Config { hosts: self.hosts.clone(), ..http::Config::on_loopback(S::PORT, S::HEALTH_PORT) };
        let mut kit = Kit::new::<S>(http, *clock);
        let listeners = Listeners { api: Some(listen(S::PORT)?), health: Some(listen(S::HEALTH_PORT)?) };
        kit.listeners = Arc::new(Mutex::new(listeners));
        let (tasks, addresses) = (kit.tasks.clone(), kit.addresses.clone());
        S::start(config, kit).await.with_context(|| format!("{} did not start", S::NAME))?;
        let addresses = *addresses.get().with_context(|| format!("{} does not listen", S::NAME))?;
        self.services.push(Started { name: S::NAME, addresses, tasks });
        Ok(addresses.api)
    }

    pub(crate) fn services(&self) -> &[Started] {
        &self.services
    }

    /// Whether a service has stopped by itself.
    pub(crate) fn has_failed(&self) -> bool {
        self.services.iter().any(|service| service.tasks.is_stopping())
    }

    /// Ends when a service stops by itself, which is a failure.
    pub(crate) async fn stopping(&self) {
        if self.services.is_empty() {
            return std::future::pending().await;
        }
        select_all(self.services.iter().map(|service| Box::pin(service.tasks.stopping()))).await;
    }

    /// Stops the services, the last one first; each finishes what it holds. Fails with the first failure of any.
    pub(crate) async fn stop(&mut self, mut on_stopped: impl FnMut(&str)) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(service) = self.services.pop() {
            service.tasks.stop();
            let stopped = service.tasks.stopped().await.with_context(|| format!("{} failed", service.name));
            on_stopped(service.name);
            outcome = outcome.and(stopped);
        }
        outcome
    }
}
