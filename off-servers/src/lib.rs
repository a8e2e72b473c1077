//! Private servers: a Postgres and a NATS as child processes, which the owner starts, watches and stops.
//!
//! `off up` keeps their data in a folder; tests delete it.

mod disk;
mod leftover;
mod nats;
mod postgres;
mod process;
mod restart;

pub use disk::SmallDisk;
pub use nats::{Nats, find_nats_server};
pub use postgres::{OLDEST_POSTGRES, Postgres, find_postgres};
use process::Server;
pub use restart::{Restart, keep_running};

use anyhow::Context;
use nix::sys::statvfs::statvfs;
use rand::{RngExt, distr::Alphanumeric};
use std::{
    env,
    fs::{File, OpenOptions, Permissions},
    io::{self, Write},
    net::TcpListener,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A loopback port that is free now.
pub fn free_port() -> std::io::Result<u16> {
    free_ports().map(|[port]| port)
}

/// Loopback ports that are free now, no two the same.
pub fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    // Held until all are found: the system may assign a released port again.
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// The free space of the file system with `folder`, in bytes.
#[allow(clippy::useless_conversion, reason = "they are 32 bits wide on some systems")]
pub fn room_on_disk(folder: &Path) -> anyhow::Result<u64> {
    let disk = statvfs(folder).with_context(|| format!("cannot get the free space of {}", folder.display()))?;
    Ok(u64::from(disk.blocks_available()) * u64::from(disk.fragment_size()))
}

/// A random password of 32 characters.
fn new_password() -> String {
    rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect()
}

/// The path of the program `name` in the folders of `PATH`.
fn find_in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Opens a file of a system, and creates it if it is missing, so that only its owner may read it.
///
/// # Errors
/// The file cannot be written, or belongs to somebody else.
pub fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.create(true).mode(0o600).open(path)?;
    // The mode above is only that of a new file.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = open_private(File::options().write(true).truncate(true), path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The last five lines of a server log, for error texts.
fn log_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n  ")
}
