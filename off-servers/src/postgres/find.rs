//! Finds the installed programs of the Postgres server.

use crate::find_in_path;
use anyhow::bail;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The oldest major version of Postgres that is tested.
pub const OLDEST_POSTGRES: u32 = 15;

/// The folder of the newest installed Postgres server programs, and their major version.
///
/// # Errors
/// Postgres is not installed or too old.
pub async fn find_postgres() -> anyhow::Result<(PathBuf, u32)> {
    let mut found = Vec::new();
    for folder in candidate_folders() {
        if let Some(version) = version_of(&folder.join("postgres")).await
            && folder.join("initdb").is_file()
        {
            found.push((folder, version));
        }
    }
    let Some((folder, version)) = found.into_iter().max_by_key(|(_, version)| *version) else {
        bail!("the PostgreSQL server is not installed: ./run installs it ({OLDEST_POSTGRES} or newer is needed)");
    };
    anyhow::ensure!(
        version >= OLDEST_POSTGRES,
        "PostgreSQL {version} in {} is too old, {OLDEST_POSTGRES} or newer is needed",
        folder.display()
    );
    Ok((folder, version))
}

/// The folders in which distributions install the server programs: Debian outside of `PATH`, Homebrew in one per
/// version.
fn candidate_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        find_in_path("postgres").iter().filter_map(|path| path.parent()).map(Path::to_owned).collect();
    for (parent, inside) in [("/usr/lib/postgresql", "bin"), ("/opt/homebrew/opt", "bin"), ("/usr/local/opt", "bin")] {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        folders
            .extend(entries.map(|entry| entry.path().join(inside)).filter(|folder| folder.join("postgres").is_file()));
    }
    folders
}

/// The major version from the output of `postgres --version`, like `postgres (PostgreSQL) 15.18`.
async fn version_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(' ').find_map(|word| word.split(['.', '\n']).next()?.parse().ok())
}
