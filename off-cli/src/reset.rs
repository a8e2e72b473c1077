//! `off reset`: deletes the private servers' data and all state.

use crate::home::Home;
use anyhow::Context;
use off_kit::print_line;
use off_kit::servers::{Nats, Postgres, SmallDisk};
use std::{fs, io::ErrorKind, path::Path, process::ExitCode};

pub(crate) async fn run(home: &Home) -> anyhow::Result<ExitCode> {
    let _lock = home.lock()?;
    home.remove_running();
    clear(home).await?;
    print_line!("{} is empty again; `off up` starts from nothing", home.folder().display());
    Ok(ExitCode::SUCCESS)
}

/// Deletes what a system has left in the folder, which is locked.
pub(crate) async fn clear(home: &Home) -> anyhow::Result<()> {
    let postgres = home.folder().join("postgres");
    // Servers of a system that was killed may still write here.
    Nats::stop_leftover(&home.folder().join("nats")).await;
    Postgres::stop_leftover(&postgres).await;
    // Root's cluster may lie elsewhere, behind a link.
    let elsewhere = fs::read_link(&postgres).ok();
    SmallDisk::unmount_leftover(elsewhere.as_deref().unwrap_or(&postgres));
    if let Some(elsewhere) = elsewhere {
        remove(&elsewhere)?;
    }
    for name in ["postgres", "postgres.password", "postgres.log", "heartbeat", "nats", "logs", "off.log", "off.log.old"]
    {
        remove(&home.folder().join(name))?;
    }
    Ok(())
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
