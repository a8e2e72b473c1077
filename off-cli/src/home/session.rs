//! A session: a command's connections to the servers of a system, which it starts if the system is stopped.

use super::{
    Home, Lock,
    servers::{Servers, external_urls},
};
use anyhow::{Context, bail};
use off_kit::{Bus, bus, db};
use sqlx::PgPool;
use std::time::Duration;

/// Timeout for the connection to a running broker.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A command's connections to the servers of a system, which it starts if the system is stopped.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) db: PgPool,
    pub(crate) bus: Bus,
    /// Servers that were started for this command only.
    servers: Option<Servers>,
    _lock: Option<Lock>,
}

impl Home {
    /// Connects to the external servers if `DATABASE_URL` and `NATS_URL` are set, else to the system that runs here,
    /// else to its two servers, which are started for this command.
    pub(crate) async fn session(&self) -> anyhow::Result<Session> {
        if let (Some(database_url), Some(nats_url)) = external_urls()? {
            return Session::new(&database_url, &nats_url, None, None).await;
        }
        match self.lock() {
            Ok(lock) => {
                if !self.folder.join("postgres").exists() && !self.folder.join("nats").exists() {
                    bail!("there is no data in {}: start the system with `off up`", self.folder.display());
                }
                self.remove_running();
                let servers = Servers::start(self).await?;
                let (database_url, nats_url) = (servers.database_url.clone(), servers.nats_url.clone());
                Session::new(&database_url, &nats_url, Some(servers), Some(lock)).await
            }
            Err(locked) => match self.running() {
                Some(running) => Session::new(&running.database_url, &running.nats_url, None, None).await,
                None => Err(locked),
            },
        }
    }
}

impl Session {
    /// Whether the system is not running, so that its servers were started for this command.
    pub(crate) fn is_of_stopped_system(&self) -> bool {
        self.servers.is_some()
    }

    async fn new(
        database_url: &str,
        nats_url: &str,
        servers: Option<Servers>,
        lock: Option<Lock>,
    ) -> anyhow::Result<Self> {
        let config = db::Config::at(database_url, 4);
        let db = db::lazy_pool(&config, "off")?;
        db.acquire().await.with_context(|| format!("Postgres does not answer at {}", db::redact(database_url)))?;
        db::refuse_shared_sessions(&db).await?;
        let bus = Bus::connect(&bus::Config::at(nats_url), "cli").await?;
        bus.connected(ANSWER_TIMEOUT).await?;
        Ok(Self { db, bus, servers, _lock: lock })
    }

    /// Closes the connections, and stops the servers that were started for this command.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.bus.close().await;
        self.db.close().await;
        match self.servers {
            Some(mut servers) => servers.stop().await,
            None => Ok(()),
        }
    }
}
