//! `off reset`: deletes the private servers' data and all state.

use crate::{confirm::confirm, home::Home};
use anyhow::Context;
use off_kit::print_line;
use off_servers::{Nats, Postgres, SmallDisk};
use std::{
    env, fs,
    io::{self, ErrorKind, IsTerminal},
    path::Path,
    process::ExitCode,
};

/// State of a system in its folder. The tools in `bin` and downloads are kept.
const STATE: [&str; 12] = [
    "postgres",
    "postgres.password",
    "postgres.pid",
    "postgres.log",
    "heartbeat",
    "nats",
    "logs",
    "off.log",
    "off.log.old",
    "running.json",
    "secrets",
    // Last: it marks what is left of the cluster as incomplete.
    "postgres.initdb",
];

/// The subfolder of `off-chaos`; it has a subfolder with a system for each seed.
pub const CHAOS: &str = "chaos";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Deletes without asking for confirmation.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(home: &Home, options: &Options) -> anyhow::Result<ExitCode> {
    let _lock = home.lock()?;
    let chaos = home.beneath(CHAOS);
    let _chaos_lock = if chaos.folder().exists() { Some(chaos.lock()?) } else { None };
    print_plan(home);
    if io::stdin().is_terminal() && !options.yes && !confirm()? {
        print_line!("nothing was deleted");
        return Ok(ExitCode::FAILURE);
    }
    for entry in fs::read_dir(chaos.folder()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(name) = name.to_str().filter(|name| name.starts_with("seed-")) {
            clear(&chaos.beneath(name)).await?;
        }
    }
    clear(&chaos).await?;
    remove(chaos.folder())?;
    clear(home).await?;
    print_line!("deleted all state in {}; the next `off up` starts with empty servers", home.folder().display());
    Ok(ExitCode::SUCCESS)
}

/// Prints what will be deleted and what will be kept.
fn print_plan(home: &Home) {
    let folder = home.folder();
    let existing: Vec<&str> =
        STATE.into_iter().chain([CHAOS]).filter(|name| fs::symlink_metadata(folder.join(name)).is_ok()).collect();
    let existing = if existing.is_empty() { "nothing".to_owned() } else { existing.join(", ") };
    print_line!("deletes from {}: {existing}", folder.display());
    if let Some(relocated) = home.relocated_database() {
        print_line!("deletes {}, the folder of the database's files", relocated.display());
    }
    print_line!("keeps the tools in bin and the downloads");
    for setting in ["DATABASE_URL", "NATS_URL"] {
        if env::var_os(setting).is_some() {
            print_line!("keeps all data in the server of {setting}");
        }
    }
}

/// Stops leftover servers and deletes all state in the folder; the caller holds its lock. Fails if something cannot be
/// deleted.
pub async fn clear(home: &Home) -> anyhow::Result<()> {
    let postgres = home.folder().join("postgres");
    // The servers of a system that was killed may still be running and write here.
    Nats::stop_leftover(&home.folder().join("nats")).await;
    Postgres::stop_leftover(&postgres).await;
    let relocated = home.relocated_database();
    if fs::symlink_metadata(&postgres).is_ok() {
        Postgres::mark_incomplete(&postgres)?;
    }
    SmallDisk::unmount_leftover(relocated.as_deref().unwrap_or(&postgres));
    if let Some(relocated) = relocated {
        remove(&relocated)?;
    }
    STATE.into_iter().try_for_each(|name| remove(&home.folder().join(name)))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", path.display()))
        }
        _ => Ok(()),
    }
}
