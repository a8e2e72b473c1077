//! The source files of all crates, for tests that check rules of the whole project.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Each Rust file below the `src` folder of each crate, with its path relative to the workspace and its text.
pub(crate) fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(workspace()).unwrap() {
        let folder = entry.unwrap().path().join("src");
        if folder.is_dir() {
            add_below(&folder, &mut found);
        }
    }
    assert!(found.len() > 100, "only {} source files were found", found.len());
    found
}

fn add_below(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(workspace()).unwrap().to_owned(), text));
        }
    }
}
