//! The context that a service is started with.

use crate::{Clock, Tasks, health::ReadinessChecks, http};
use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, OnceLock},
};

/// The context of a service: its name, clock, tasks, readiness checks and HTTP settings.
#[derive(Debug, Clone)]
pub struct Kit {
    pub name: &'static str,
    pub about: &'static str,
    pub clock: Clock,
    pub tasks: Tasks,
    /// Decide whether the service is ready.
    pub readiness_checks: ReadinessChecks,
    pub http: http::Config,
    /// Sockets that listen already, from a caller that reserved the ports; otherwise `http` has the addresses.
    pub listeners: Arc<Mutex<Listeners>>,
    /// The addresses of the service, set when it listens.
    pub addresses: Arc<OnceLock<Addresses>>,
}

/// Listening sockets for the API and for the health port.
#[derive(Debug, Default)]
pub struct Listeners {
    pub api: Option<TcpListener>,
    pub health: Option<TcpListener>,
}

/// The addresses on which a service listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub api: SocketAddr,
    pub health: SocketAddr,
}
