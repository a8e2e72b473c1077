//! Links and commands in the documentation exist.

use crate::{off, stdout};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Markdown file at the root, in `docs` and in `off-bench`, with its text. READMEs of crates are not included:
/// they are also rustdoc, and link to items.
fn documents() -> Vec<(PathBuf, String)> {
    let mut documents = Vec::new();
    for folder in ["", "docs", "off-bench"] {
        for file in fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&file).unwrap();
                documents.push((file, text));
            }
        }
    }
    assert!(documents.len() > 10, "too few documents found");
    documents
}

/// The anchor that GitHub generates for a heading.
fn anchor_of(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> HashSet<String> {
    let outside_code = text.split("```").step_by(2);
    outside_code
        .flat_map(str::lines)
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor_of(line.trim_start_matches('#').trim()))
        .collect()
}

#[test]
fn every_relative_link_has_a_target() {
    for (file, text) in documents() {
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default()) {
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            assert!(target.exists(), "{} links to {link}, which does not exist", file.display());
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                assert!(there.contains(anchor), "{} links to {link}; {path} has {there:?}", file.display());
            }
        }
    }
}

#[tokio::test]
async fn every_command_in_the_documentation_exists() {
    let help = stdout(&off(&["--help"]).output().await.unwrap());
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: HashSet<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains("up"), "{help}");
    // `run` starts another program for this one.
    let run = fs::read_to_string(root().join("run")).unwrap();
    assert!(run.contains("\nchaos) package=off-chaos"), "{run}");
    let commands: HashSet<&str> = commands.into_iter().chain(["chaos"]).collect();
    let mut named = 0;
    for (file, text) in documents() {
        for rest in text.split("./run ").skip(1) {
            let word: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            // The word is empty if `./run` is followed by an option.
            if !word.is_empty() {
                assert!(commands.contains(word.as_str()), "{} mentions `./run {word}`", file.display());
                named += 1;
            }
        }
    }
    assert!(named > 20, "too few commands found: {named}");
}
