//! A NATS server for one test.

use crate::end::EndGuard;
use off_kit::{
    Bus,
    bus::{self, StreamStorage},
};
use off_servers::SmallDisk;
use std::{path::Path, time::Duration};
use tempfile::TempDir;

/// A private NATS server, killed when the test ends. A test finishes one that [`TestNats::new`] created with
/// [`TestNats::end`] or a method like it; dropping it otherwise is a panic.
#[derive(Debug)]
pub struct TestNats {
    /// Its URL.
    pub url: String,
    /// A connection to it.
    pub bus: Bus,
    /// The server, to stop and restart it.
    pub server: off_servers::Nats,
    pub(crate) end_guard: EndGuard,
    /// Declared before `_folder`, so that it is dropped, and thereby unmounted, before the folder is removed.
    disk: Option<SmallDisk>,
    _folder: TempDir,
}

impl TestNats {
    /// A server with all streams declared.
    pub async fn new() -> Self {
        let nats = Self { end_guard: EndGuard::armed(), ..Self::without_streams().await };
        bus::declare(&nats.bus, StreamStorage::default()).await.expect("the streams are declared");
        nats
    }

    /// Kills the server and restarts it with its data.
    pub async fn kill_and_restart(&mut self) {
        self.server.kill().await.expect("the server is killed");
        self.server.start_again().await.expect("the server restarts");
    }

    /// Kills the server, deletes its data, restarts it and declares the streams again, as `off migrate` does.
    pub async fn lose_everything(&mut self) {
        self.run_on_store("rm -r store").await;
        bus::declare(&self.bus, StreamStorage::default()).await.expect("the streams are declared");
    }

    /// Kills the server, backs up its data for [`TestNats::restore_store`] and restarts it.
    pub async fn back_up_store(&mut self) {
        self.run_on_store("cp -a store older").await;
    }

    /// Kills the server, restores the backup of its data and restarts it.
    pub async fn restore_store(&mut self) {
        self.run_on_store("rm -r store && mv older store").await;
    }

    /// Kills the server, runs a shell script on its data and restarts it.
    async fn run_on_store(&mut self, script: &str) {
        self.server.with_store(script).await.expect("the server restarts");
        self.bus.connected(Duration::from_secs(10)).await.expect("a connection to NATS");
    }

    /// A server without streams. What its test leaves behind is not checked.
    pub async fn without_streams() -> Self {
        Self::start_in(new_folder(), None).await
    }

    /// A server with all streams declared, on a disk of `mebibytes` MiB; `None` if this user may not mount one. What
    /// its test leaves behind is not checked.
    pub async fn on_small_disk(mebibytes: u32) -> Option<Self> {
        let folder = new_folder();
        let disk = SmallDisk::mount(folder.path(), mebibytes)?;
        let nats = Self::start_in(folder, Some(disk)).await;
        bus::declare(&nats.bus, StreamStorage::default()).await.expect("the streams are declared");
        Some(nats)
    }

    /// The small disk. Panics if the server was not created with [`TestNats::on_small_disk`].
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("a small disk")
    }

    async fn start_in(folder: TempDir, disk: Option<SmallDisk>) -> Self {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.off/bin");
        let (program, _) = off_servers::find_nats_server(&tools).await.expect("nats-server is found");
        let server = off_servers::Nats::start(&program, folder.path(), &[]).await.expect("NATS starts");
        let config = bus::Config::at(&server.url);
        let bus = Bus::connect(&config, "test").await.expect("the client connects");
        bus.connected(Duration::from_secs(10)).await.expect("a connection to NATS");
        Self { url: server.url.clone(), bus, server, end_guard: EndGuard::unarmed(), disk, _folder: folder }
    }
}

fn new_folder() -> TempDir {
    tempfile::Builder::new().prefix("off-nats-").tempdir().expect("a temporary folder")
}
