//! `off secrets`: checks password files before they are used.

use crate::report::check;
use anyhow::{Context, ensure};
use off_kit::{print_line, secret};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder with one password file per program.
    folder: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut files = list_files(&options.folder)?;
    files.sort_unstable();
    let (mut passwords, mut all_valid) = (HashSet::new(), true);
    for file in &files {
        let result = secret::read(file).and_then(|password| {
            ensure!(passwords.insert(password), "{} contains the same password as another file", file.display());
            Ok(())
        });
        all_valid &= result.is_ok();
        // The longest name is one letter too long for the column of other reports.
        let name = format!("{:<16} ", file.file_name().unwrap_or_default().to_string_lossy());
        print_line!(
            "{}",
            check(
                result.is_ok().into(),
                &name,
                &result.err().map_or_else(|| "ok".to_owned(), |error| format!("{error:#}"))
            )
        );
    }
    if all_valid {
        return Ok(ExitCode::SUCCESS);
    }
    print_line!(
        "these passwords are not accepted: create others with deploy/make-secrets FOLDER and set OFF_SECRETS to FOLDER"
    );
    Ok(ExitCode::FAILURE)
}

fn list_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let cannot_read = || format!("cannot read {}", folder.display());
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).with_context(cannot_read)?.collect();
    let paths = entries.with_context(cannot_read)?.into_iter().map(|entry| entry.path());
    let files: Vec<_> = paths.filter(|path| path.is_file()).collect();
    ensure!(!files.is_empty(), "there is no password file in {}", folder.display());
    Ok(files)
}
