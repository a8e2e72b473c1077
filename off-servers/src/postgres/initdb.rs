//! Creates a cluster, also where an interrupted initdb left an incomplete one.

use super::owner::as_user;
use crate::{new_password, write_private};
use anyhow::Context;
use nix::unistd::{User, chown};
use std::{env, path::Path, process::Stdio, time::Duration};
use tokio::process::Command;

/// How often to delete what an interrupted initdb left, how many times, and how many times the folder has to be empty.
const EMPTY_POLL_INTERVAL: Duration = Duration::from_millis(100);
const EMPTY_POLLS: u32 = 100;
const POLLS_UNTIL_EMPTY: u32 = 3;

/// Creates the cluster with initdb. Meanwhile the file `unfinished` exists and contains the process id of initdb: if it
/// is killed, its files look like a cluster but are incomplete.
pub(super) async fn initialize(
    programs: &Path,
    data: &Path,
    password_file: &Path,
    unfinished: &Path,
    user: Option<&User>,
) -> anyhow::Result<()> {
    // A copy of the password that the user of the server can read; it may be unable to access `password_file`.
    let readable_password_file = env::temp_dir().join(format!("off-{}", new_password()));
    let password = new_password();
    write_private(password_file, &password)?;
    write_private(unfinished, "")?;
    write_private(&readable_password_file, &password)?;
    if let Some(user) = user {
        chown(&readable_password_file, Some(user.uid), Some(user.gid))?;
    }
    let mut command = as_user(Command::new(programs.join("initdb")), user);
    command
        .arg("-D")
        .arg(data)
        .args(["-U", "off", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-instructions", "--pwfile"])
        .arg(&readable_password_file)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = async {
        let initdb = command.spawn()?;
        std::fs::write(unfinished, initdb.id().unwrap_or_default().to_string())?;
        initdb.wait_with_output().await
    };
    let output = output.await;
    std::fs::remove_file(&readable_password_file)?;
    let output = output.context("cannot run initdb")?;
    anyhow::ensure!(
        output.status.success(),
        "initdb could not create a cluster in {}:\n{}",
        data.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::remove_file(unfinished)?;
    Ok(())
}

/// Deletes the contents of `folder`, but not the folder itself, which may be a mount point. A process that a killed
/// initdb started may still write there, so it is retried until the folder stays empty.
pub(super) async fn empty(folder: &Path) -> anyhow::Result<()> {
    let mut polls_empty = 0;
    for _ in 0..EMPTY_POLLS {
        polls_empty = if remove_contents(folder).is_ok_and(|removed| removed == 0) { polls_empty + 1 } else { 0 };
        if polls_empty == POLLS_UNTIL_EMPTY {
            return Ok(());
        }
        tokio::time::sleep(EMPTY_POLL_INTERVAL).await;
    }
    remove_contents(folder).map(drop).with_context(|| format!("cannot empty {}", folder.display()))
}

/// Deletes what is in `folder`; returns how many files and folders were there.
fn remove_contents(folder: &Path) -> std::io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?;
        } else {
            std::fs::remove_file(&path)?;
        }
        removed += 1;
    }
    Ok(removed)
}
