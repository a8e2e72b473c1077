//! `off secrets`: looks at passwords before anything is set up with them.

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
    /// The folder with a file for each program, which holds its password.
    folder: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut files = list_files(&options.folder)?;
    files.sort_unstable();
    let (mut passwords, mut all_well) = (HashSet::new(), true);
    for file in &files {
        let found = secret::read(file).and_then(|password| {
            ensure!(passwords.insert(password), "{} holds the same password as another", file.display());
            Ok(())
        });
        all_well &= found.is_ok();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        print_line!(
            "{}",
            check(
                found.is_ok().into(),
                &name,
                &found.err().map_or_else(|| "ok".to_owned(), |error| format!("{error:#}"))
            )
        );
    }
    if all_well {
        return Ok(ExitCode::SUCCESS);
    }
    print_line!(
        "nothing starts with these: deploy/make-secrets FOLDER makes others, and OFF_SECRETS names their folder"
    );
    Ok(ExitCode::FAILURE)
}

fn list_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let reading = || format!("cannot read {}", folder.display());
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).with_context(reading)?.collect();
    let files: Vec<_> =
        entries.with_context(reading)?.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    ensure!(!files.is_empty(), "there is no password in {}", folder.display());
    Ok(files)
}
