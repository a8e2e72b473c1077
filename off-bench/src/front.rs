//! A gateway with services behind it, each in its own process.

use crate::{
    Stage, load,
    program::{start_off, stop},
    stage::{Ports, wait_until_ready},
};
use anyhow::Context;
use off_testkit::{Process, tokens};
use serde_json::Value;
use std::{fs, net::SocketAddr};
use tempfile::TempDir;

/// Environment variables that turn off the waits of suppliers and deliveries.
pub const NO_WAITS: [(&str, &str); 4] = [
    ("SUPPLIER_DELAY_MIN", "0s"),
    ("SUPPLIER_DELAY_MAX", "0s"),
    ("DELIVERY_DELAY_MIN", "0s"),
    ("DELIVERY_DELAY_MAX", "0s"),
];

/// The processes, the gateway last. All accept the tokens of this process, and those of the auth service if it is one of
/// them.
#[derive(Debug)]
pub struct Front {
    programs: Vec<(&'static str, Ports, Process)>,
    _secrets: TempDir,
}

impl Front {
    /// Starts `services`, of which `auth` must be the first, and a gateway without limits of requests and connections.
    /// `settings` are environment variables of all of them.
    pub async fn start(stage: &Stage, services: &[&'static str], settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let secrets = tempfile::tempdir()?;
        let secret = secrets.path().join("auth_secret");
        fs::write(&secret, "the master secret of a benchmark, long enough")?;
        let mut all = vec![("AUTH_SECRET_FILE".to_owned(), secret.to_string_lossy().into_owned())];
        let without_limits = [("MAX_CONNECTIONS_PER_ADDRESS", "0"), ("RATE_PERSON", "off"), ("RATE_CLIENT", "off")];
        all.extend(
            settings.iter().chain(&without_limits).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let mut programs = Vec::new();
        for &name in services.iter().chain(&["gateway"]) {
            let ports = Ports::free()?;
            let more = all.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let process =
                start_off(&["serve", name], &stage.settings(&ports).into_iter().chain(more).collect::<Vec<_>>())?;
            wait_until_ready(ports.health).await?;
            if name == "auth" {
                accept_tokens_of(&ports).await?;
            }
            let upper = name.to_uppercase();
            all.push((format!("{upper}_URL"), format!("http://{}", ports.address)));
            all.push((format!("{upper}_HEALTH_URL"), format!("http://{}", ports.health)));
            programs.push((name, ports, process));
        }
        Ok(Self { programs, _secrets: secrets })
    }

    /// The address of the API of a service, or of the gateway.
    pub fn address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        Ok(self.find(name)?.1.address)
    }

    /// The process id of a service, or of the gateway.
    pub fn id(&self, name: &str) -> anyhow::Result<u32> {
        self.find(name)?.2.pid()
    }

    fn find(&self, name: &str) -> anyhow::Result<&(&'static str, Ports, Process)> {
        let found = self.programs.iter().find(|(program, ..)| *program == name);
        found.with_context(|| format!("{name} was not started"))
    }

    /// Stops all, the gateway first.
    pub async fn stop(self) -> anyhow::Result<()> {
        for (_, _, process) in self.programs.into_iter().rev() {
            stop(process).await?;
        }
        Ok(())
    }
}

/// Lets the programs that start from now on accept the tokens of the auth service, too.
async fn accept_tokens_of(auth: &Ports) -> anyhow::Result<()> {
    let mut keys: Value = serde_json::from_slice(&load::fetch(auth.address, "/.well-known/jwks.json").await?)?;
    keys["keys"].as_array_mut().context("no keys")?.push(serde_json::to_value(tokens::public_key())?);
    Ok(fs::write(tokens::keys_file(), keys.to_string())?)
}
