//! All services in one process.

use anyhow::Context;
use clap::{Args, Command};
use futures::future::select_all;
use off_kit::{Clock, Kit, Service, Tasks, http};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

/// Services that run in this process, in the order in which they were started.
#[derive(Debug, Default)]
pub(crate) struct System {
    services: Vec<Started>,
}

/// A service that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    tasks: Tasks,
}

/// The settings of `C`: from the environment, as in a program of its own, with `arguments` before all.
pub(crate) fn settings<C: Args>(arguments: &[(&str, String)]) -> anyhow::Result<C> {
    let words = arguments.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]);
    let matches = C::augment_args(Command::new("off").no_binary_name(true)).try_get_matches_from(words)?;
    Ok(C::from_arg_matches(&matches)?)
}

impl System {
    /// Starts `S` on its own port, or on any that is free where that is taken.
    pub(crate) async fn start<S: Service>(&mut self, config: S::Config, clock: &Clock) -> anyhow::Result<SocketAddr> {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, S::PORT));
        // Bound here and handed over: another `off up` that starts now may want the same port.
        let listener = TcpListener::bind(wanted).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        listener.set_nonblocking(true)?;
        let address = http::Config { http_service_host: wanted.ip(), http_service_port: S::PORT };
        let mut kit = Kit::new::<S>(address, *clock);
        kit.listener = Arc::new(Mutex::new(Some(listener)));
        let (tasks, address) = (kit.tasks.clone(), kit.address.clone());
        S::start(config, kit).await.with_context(|| format!("{} did not start", S::NAME))?;
        let address = *address.get().with_context(|| format!("{} does not listen", S::NAME))?;
        self.services.push(Started { name: S::NAME, address, tasks });
        Ok(address)
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
