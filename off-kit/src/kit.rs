//! The context that a service is started with.

use crate::{Clock, Tasks, health::ReadinessChecks, http};
use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, OnceLock},
};

/// The context of a service: its name, clock, tasks, readiness checks and HTTP settings.
#[derive(Debug, Clone)]
pub struct Kit {
    /// The name of the service.
    pub name: &'static str,
    /// A one-line description of the service.
    pub about: &'static str,
    /// Tells the time; sets the length of waits and timeouts.
    pub clock: Clock,
    /// Supervises the tasks of the service.
    pub tasks: Tasks,
    /// Decide whether the service is ready.
    pub readiness_checks: ReadinessChecks,
    /// The addresses and host names.
    pub http: http::Config,
    /// Sockets that listen already, from a caller that reserved the ports; otherwise `http` has the addresses.
    pub listeners: Arc<Mutex<Listeners>>,
    /// The addresses of the service, set when it listens.
    pub addresses: Arc<OnceLock<Addresses>>,
}

/// Listening sockets for the API and for the health port.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For the API.
    pub api: Option<TcpListener>,
    /// For health and metrics.
    pub health: Option<TcpListener>,
}

/// The addresses on which a service listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Of the API.
    pub api: SocketAddr,
    /// Of health and metrics.
    pub health: SocketAddr,
}
