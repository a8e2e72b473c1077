//! A cluster of three NATS servers on this machine, with the production settings.

use anyhow::Context;
use off_events::streams;
use off_kit::{Bus, bus};
use off_servers::{find_nats_server, free_port};
use off_testkit::{Log, Process};
use std::{ffi::OsStr, fs, path::Path, time::Duration};

/// The broker's users; each has the password [`PASSWORD`].
const USERS: [&str; 9] =
    ["admin", "auth", "users", "orders", "billing", "notifications", "generator", "gateway", "operator"];
const PASSWORD: &str = "only-here-and-now";

/// A cluster of three servers.
#[derive(Debug)]
pub struct Cluster {
    ports: [u16; 3],
    servers: [Process; 3],
}

impl Cluster {
    /// Starts three servers with the settings in `deploy/nats/cluster.conf`; they store their data in `folder`.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nats");
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.off/bin");
        let (program, _) = find_nats_server(&tools).await?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let cluster_ports = [free_port()?, free_port()?, free_port()?];
        let settings = fs::read_to_string(deploy.join("cluster.conf")).context("deploy/nats/cluster.conf")?;
        fs::copy(deploy.join("users.conf"), folder.join("users.conf")).context("deploy/nats/users.conf")?;
        for index in 0..3 {
            let mut text = settings
                .replace("0.0.0.0:4222", &format!("127.0.0.1:{}", ports[index]))
                .replace("0.0.0.0:6222", &format!("127.0.0.1:{}", cluster_ports[index]))
                .replace("http: \"0.0.0.0:8222\"\n", "")
                .replace("\"/data\"", &format!("\"{}\"", folder.join(format!("nats-{index}")).display()));
            for (other, port) in cluster_ports.iter().enumerate() {
                text = text.replace(&format!("nats-{other}.nats:6222"), &format!("127.0.0.1:{port}"));
            }
            fs::write(folder.join(format!("nats-{index}.conf")), text)?;
        }
        let mut cluster = Self { ports, servers: [0, 1, 2].map(|index| server(&program, folder, index)) };
        for index in 0..3 {
            cluster.start_server(index)?;
        }
        Ok(cluster)
    }

    /// Starts or restarts server `index`.
    pub fn start_server(&mut self, index: usize) -> anyhow::Result<()> {
        self.servers[index].start()
    }

    /// `kill -9` of server `index`.
    pub async fn kill_server(&mut self, index: usize) -> anyhow::Result<()> {
        self.servers[index].kill().await
    }

    /// URLs of all servers for `user`, separated by commas.
    pub fn url(&self, user: &str) -> String {
        self.ports.map(|port| format!("nats://{user}:{PASSWORD}@127.0.0.1:{port}")).join(",")
    }

    /// Connects as the operator.
    pub async fn bus(&self) -> anyhow::Result<Bus> {
        let bus = Bus::connect(&bus::Config::at(&self.url("operator")), "bench").await?;
        bus.connected(Duration::from_secs(10)).await?;
        Ok(bus)
    }

    /// Index of the server that leads `stream`; `None` during an election.
    pub async fn leader(&self, bus: &Bus, stream: &str) -> Option<usize> {
        let stream = bus.jetstream.get_stream(stream).await.ok()?;
        let leader = stream.cached_info().cluster.as_ref()?.leader.clone()?;
        (0..3).find(|&index| server_name(index) == leader)
    }

    /// Total size of all streams, in bytes. Each server stores all of them.
    pub async fn bytes(&self, bus: &Bus) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for stream in streams::STREAMS {
            bytes += bus.jetstream.get_stream(stream.name).await?.cached_info().state.bytes;
        }
        Ok(bytes)
    }

    /// Process ids of the running servers.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.servers.iter().filter_map(|server| server.pid().ok())
    }

    /// Kills all servers.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for index in 0..3 {
            self.kill_server(index).await?;
        }
        Ok(())
    }
}

/// Server `index`, not started yet. The server's log is in `folder`.
fn server(program: &Path, folder: &Path, index: usize) -> Process {
    Process::new(program)
        .arguments([OsStr::new("--config"), folder.join(format!("nats-{index}.conf")).as_os_str()])
        .environment(USERS.map(|user| (format!("PASSWORD_{user}"), PASSWORD)))
        .environment([("SERVER_NAME", server_name(index))])
        .log(Log::Appended(folder.join(format!("nats-{index}.log"))))
}

fn server_name(index: usize) -> String {
    format!("nats-{index}")
}
