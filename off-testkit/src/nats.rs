//! A NATS server for one test.

use off_kit::{
    Bus,
    bus::{self, Keeping},
    servers::{self, SmallDisk},
};
use std::{path::Path, time::Duration};
use tempfile::TempDir;

/// A NATS server of the test's own, with all streams declared. Killed when the test ends.
#[derive(Debug)]
pub struct TestNats {
    pub url: String,
    pub bus: Bus,
    pub server: servers::Nats,
    /// Before its folder, so that it is gone when that is removed.
    disk: Option<SmallDisk>,
    _folder: TempDir,
}

impl TestNats {
    /// A server with all streams declared.
    pub async fn new() -> Self {
        let nats = Self::without_streams().await;
        bus::declare(&nats.bus, Keeping::default()).await.expect("the streams");
        nats
    }

    /// Kills the server and starts it again with all it had on disk.
    pub async fn kill_and_start_again(&mut self) {
        self.server.kill().await.expect("the server dies");
        self.server.start_again().await.expect("the server starts again");
    }

    /// Kills the server and takes its disk away; it starts again with nothing, and is made ready as `off migrate` does.
    pub async fn lose_everything(&mut self) {
        self.with_store("rm -r store").await;
        bus::declare(&self.bus, Keeping::default()).await.expect("the streams");
    }

    /// Keeps a copy of its store for [`TestNats::go_back`].
    pub async fn keep_copy(&mut self) {
        self.with_store("cp -a store older").await;
    }

    /// Kills the server and starts it again with the copy of its store.
    pub async fn go_back(&mut self) {
        self.with_store("rm -r store && mv older store").await;
    }

    async fn with_store(&mut self, script: &str) {
        self.server.with_store(script).await.expect("the server starts again");
        self.bus.connected(Duration::from_secs(10)).await.expect("a connection to it");
    }

    /// A server with nothing in it.
    pub async fn without_streams() -> Self {
        Self::start_in(new_folder(), None).await
    }

    /// A server with all streams declared, on a small disk; `None` where this user may not make one.
    pub async fn on_small_disk(mebibytes: u32) -> Option<Self> {
        let folder = new_folder();
        let disk = SmallDisk::mount(folder.path(), mebibytes)?;
        let nats = Self::start_in(folder, Some(disk)).await;
        bus::declare(&nats.bus, Keeping::default()).await.expect("the streams");
        Some(nats)
    }

    /// The small disk of a server that has one.
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("a small disk")
    }

    async fn start_in(folder: TempDir, disk: Option<SmallDisk>) -> Self {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.off/bin");
        let (program, _) = servers::find_nats_server(&tools).await.expect("nats-server");
        let server = servers::Nats::start(&program, folder.path(), &[]).await.expect("a NATS of the test's own");
        let config = bus::Config::at(&server.url);
        let bus = Bus::connect(&config, "test").await.expect("a client");
        bus.connected(Duration::from_secs(10)).await.expect("a connection to it");
        Self { url: server.url.clone(), bus, server, disk, _folder: folder }
    }
}

fn new_folder() -> TempDir {
    tempfile::Builder::new().prefix("off-nats-").tempdir().expect("a temporary folder")
}
