//! `off reset`: deletes the private servers' data and all state.

use crate::home::Home;
use anyhow::Context;
use off_kit::{
    print_line,
    servers::{Nats, Postgres, SmallDisk},
};
use std::{
    env, fs,
    io::{self, ErrorKind, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

/// What a system leaves in its folder. The tools in `bin` and what was downloaded stay.
const STATE: [&str; 11] = [
    "postgres",
    "postgres.initdb",
    "postgres.password",
    "postgres.pid",
    "postgres.log",
    "heartbeat",
    "nats",
    "logs",
    "off.log",
    "off.log.old",
    "running.json",
];

/// What `off chaos` leaves, with a system of each seed in it.
const CHAOS: &str = "chaos";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(home: &Home, options: &Options) -> anyhow::Result<ExitCode> {
    let _lock = home.lock()?;
    let chaos = home.beneath(CHAOS);
    let _chaos_lock = if chaos.folder().exists() { Some(chaos.lock()?) } else { None };
    tell(home);
    if io::stdin().is_terminal() && !options.yes && !is_confirmed()? {
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
    print_line!("{} is empty again; `off up` starts from nothing", home.folder().display());
    Ok(ExitCode::SUCCESS)
}

/// Says what will be deleted and what will not.
fn tell(home: &Home) {
    let folder = home.folder();
    let there: Vec<&str> =
        STATE.into_iter().chain([CHAOS]).filter(|name| fs::symlink_metadata(folder.join(name)).is_ok()).collect();
    let there = if there.is_empty() { "nothing, because nothing is there".to_owned() } else { there.join(", ") };
    print_line!("deletes from {}: {there}", folder.display());
    if let Some(elsewhere) = home.database_elsewhere() {
        print_line!("deletes {}, where the database's files are", elsewhere.display());
    }
    print_line!("keeps the tools in bin, and downloads");
    for setting in ["DATABASE_URL", "NATS_URL"] {
        if env::var_os(setting).is_some() {
            print_line!("keeps all that is in the server that {setting} names");
        }
    }
}

fn is_confirmed() -> anyhow::Result<bool> {
    write!(io::stdout(), "type yes to go on: ")?;
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Deletes what a system has left in the folder, which is locked.
pub(crate) async fn clear(home: &Home) -> anyhow::Result<()> {
    let postgres = home.folder().join("postgres");
    // Servers of a system that was killed may still write here.
    Nats::stop_leftover(&home.folder().join("nats")).await;
    Postgres::stop_leftover(&postgres).await;
    let elsewhere = home.database_elsewhere();
    SmallDisk::unmount_leftover(elsewhere.as_deref().unwrap_or(&postgres));
    if let Some(elsewhere) = elsewhere {
        remove(&elsewhere)?;
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
