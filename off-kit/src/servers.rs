//! Servers of one's own: a Postgres and a NATS that are started, watched and stopped by whoever needs them.
//!
//! `off up` keeps them for a folder, tests throw them away.

mod nats;
mod postgres;
mod process;

pub use nats::{Nats, find_nats_server};
pub use postgres::{Postgres, find_postgres};
use process::Server;

use rand::{RngExt, distr::Alphanumeric};
use std::{
    env,
    net::TcpListener,
    path::{Path, PathBuf},
};

/// A loopback port that is free now.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A password nobody has to remember.
fn new_password() -> String {
    rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect()
}

/// The program `name` in the folders of `PATH`.
fn find_in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The last lines of a server's log, for an error that has to explain itself.
fn log_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n  ")
}
