//! The Postgres and the NATS of a system, private or external.

use super::Home;
use anyhow::Context;
use off_kit::{db, secret};
use off_servers::{Nats, Postgres, find_nats_server, find_postgres, keep_running};
use std::{env, path::PathBuf};

/// Postgres and NATS, private or external; `postgres` and `nats` are `None` for an external one.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) database_url: String,
    pub(crate) nats_url: String,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) nats: Option<Nats>,
}

/// `DATABASE_URL` and `NATS_URL` if they are set, each with the password from its password file if there is one.
pub(super) fn external_urls() -> anyhow::Result<(Option<String>, Option<String>)> {
    let read = |name, password_file| match env::var_os(name) {
        None => Ok(None),
        Some(value) => {
            let url = value.into_string().map_err(|_| anyhow::anyhow!("{name} is not text"))?;
            let file = env::var_os(password_file).map(PathBuf::from);
            secret::fill_in(&url, file.as_deref()).context(name).map(Some)
        }
    };
    Ok((read("DATABASE_URL", "DATABASE_PASSWORD_FILE")?, read("NATS_URL", "NATS_PASSWORD_FILE")?))
}

impl Servers {
    /// A line for people: which servers will be started, and which external ones are used.
    pub(crate) fn start_line() -> anyhow::Result<String> {
        let describe = |server: &str, setting: &str, url: Option<String>| match url {
            None => format!("starting {server}"),
            Some(url) => format!("using the {server} that {setting} names, {}", db::redact(&url)),
        };
        let (database_url, nats_url) = external_urls()?;
        if database_url.is_none() && nats_url.is_none() {
            return Ok("starting PostgreSQL and NATS".to_owned());
        }
        let postgres = describe("PostgreSQL", "DATABASE_URL", database_url);
        let nats = describe("NATS", "NATS_URL", nats_url);
        Ok(format!("{postgres}, {nats}"))
    }

    /// Starts the private servers: those for which no external URL is set.
    pub(crate) async fn start(home: &Home) -> anyhow::Result<Self> {
        let (database_url, nats_url) = external_urls()?;
        let (postgres, database_url) = if let Some(url) = database_url {
            (None, url)
        } else {
            let (programs, _) = find_postgres().await?;
            let postgres = Postgres::start(&programs, &home.folder.join("postgres"), &[]).await?;
            let url = postgres.url.clone();
            (Some(postgres), url)
        };
        let (nats, nats_url) = if let Some(url) = nats_url {
            (None, url)
        } else {
            let (program, _) = find_nats_server(home.tools()).await?;
            let nats = Nats::start(&program, &home.folder.join("nats"), &[]).await?;
            let url = nats.url.clone();
            (Some(nats), url)
        };
        Ok(Self { database_url, nats_url, postgres, nats })
    }

    /// Restarts private servers that exit, and calls `on_restart` each time. Returns an error if one exits too often.
    pub(crate) async fn keep_running(&mut self, on_restart: impl Fn(&str)) -> anyhow::Result<()> {
        let postgres = async {
            match &mut self.postgres {
                Some(postgres) => keep_running(postgres, &on_restart).await,
                None => std::future::pending().await,
            }
        };
        let nats = async {
            match &mut self.nats {
                Some(nats) => keep_running(nats, &on_restart).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = postgres => ended,
            ended = nats => ended,
        }
    }

    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(nats) = &mut self.nats {
            nats.stop().await?;
        }
        if let Some(postgres) = &mut self.postgres {
            postgres.stop().await?;
        }
        Ok(())
    }
}
