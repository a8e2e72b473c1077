//! The user that the server runs as, and the data folder that this user can access.

use crate::new_password;
use anyhow::{Context, bail};
use nix::unistd::{User, chown};
use std::{
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};
use tokio::process::Command;

/// The user that the server runs as when this process is root: the one that its package created, or else nobody.
pub(super) fn server_user() -> anyhow::Result<User> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user);
        }
    }
    bail!("Postgres refuses to run as root, and neither of the users postgres and nobody exists")
}

/// Lets `command` run as `user`; `None` is the current user.
pub(super) fn as_user(mut command: Command, user: Option<&User>) -> Command {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Creates the data folder: `folder` itself, or, if the user of the server cannot access it (as below /root), a folder
/// below /var/lib to which `folder` then links.
pub(super) fn create_data_folder(folder: &Path, user: Option<&User>) -> anyhow::Result<PathBuf> {
    let creating = || format!("cannot create {}", folder.display());
    let link = std::fs::read_link(folder).ok();
    let Some(user) = user else {
        if let Some(target) = link {
            return Ok(target);
        }
        std::fs::create_dir_all(folder).with_context(creating)?;
        return Ok(folder.to_owned());
    };
    let parent = folder.parent().unwrap_or(Path::new("/"));
    let data = if let Some(target) = link {
        target
    } else if folder.exists() || is_reachable(parent, user) {
        folder.to_owned()
    } else {
        let elsewhere = PathBuf::from("/var/lib").join(format!("off-{}", new_password().get(..8).unwrap_or_default()));
        symlink(&elsewhere, folder).with_context(creating)?;
        elsewhere
    };
    std::fs::create_dir_all(&data).with_context(creating)?;
    chown(&data, Some(user.uid), Some(user.gid)).with_context(creating)?;
    Ok(data)
}

/// Whether `user` may traverse all folders down to `path`.
fn is_reachable(path: &Path, user: &User) -> bool {
    path.ancestors().all(|folder| {
        std::fs::metadata(folder).is_ok_and(|folder| {
            let mode = folder.mode();
            mode & 0o001 != 0
                || (folder.uid() == user.uid.as_raw() && mode & 0o100 != 0)
                || (folder.gid() == user.gid.as_raw() && mode & 0o010 != 0)
        })
    })
}
