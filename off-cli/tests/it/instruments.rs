//! Dashboards and alerts show what is counted.

use off_kit::telemetry::{Kind, METRICS};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/observability")
}

/// The words of `text` that begin as our metrics do.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("off_"))
        .map(str::to_owned)
        .collect()
}

fn is_counted(word: &str) -> bool {
    METRICS.iter().any(|&(kind, name, _)| match word.strip_prefix(name) {
        Some("") => true,
        Some("_bucket" | "_sum" | "_count") => kind == Kind::Histogram,
        _ => false,
    })
}

#[test]
fn every_panel_and_every_alert_speaks_of_metrics_that_exist() {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder().join("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3, "{files:?}");
    files.push(folder().join("alerts.yml"));
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let words = metrics_in(&text);
        assert!(!words.is_empty(), "{} shows nothing of ours", file.display());
        let unknown: Vec<_> = words.iter().filter(|word| !is_counted(word)).collect();
        assert!(unknown.is_empty(), "{} speaks of {unknown:?}, which nothing counts", file.display());
    }
}

#[test]
fn every_dashboard_is_one() {
    for entry in fs::read_dir(folder().join("grafana/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let (titles, ids): (BTreeSet<_>, BTreeSet<_>) =
            panels.iter().map(|panel| (panel["title"].to_string(), panel["id"].to_string())).unzip();
        assert_eq!((titles.len(), ids.len()), (panels.len(), panels.len()), "{} repeats a panel", path.display());
        for panel in panels {
            assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{panel}");
            let place = &panel["gridPos"];
            assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{panel}");
        }
    }
}
