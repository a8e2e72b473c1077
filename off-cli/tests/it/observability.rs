//! Dashboards and alerts use only metrics that exist.

use off_auth_service::AuthService;
use off_billing_service::BillingService;
use off_gateway::Gateway;
use off_generator::Generator;
use off_kit::{
    Service, service,
    telemetry::{Kind, Metric},
};
use off_notifications_service::NotificationsService;
use off_operator_service::OperatorService;
use off_orders_service::OrdersService;
use off_users_service::UsersService;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/observability")
}

/// The words in `text` with the prefix of off's metrics.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("off_"))
        .map(str::to_owned)
        .collect()
}

/// The declared metrics of all programs.
fn declared() -> impl Iterator<Item = &'static Metric> {
    let own = [
        AuthService::METRICS,
        UsersService::METRICS,
        OrdersService::METRICS,
        BillingService::METRICS,
        NotificationsService::METRICS,
        OperatorService::METRICS,
        Gateway::METRICS,
        Generator::METRICS,
    ];
    service::METRICS.into_iter().chain(own).chain([&off_etl::METRICS[..]]).flatten()
}

fn is_metric(word: &str) -> bool {
    declared().any(|metric| match word.strip_prefix(metric.name) {
        Some("") => true,
        Some("_bucket" | "_sum" | "_count") => metric.kind == Kind::Histogram,
        _ => false,
    })
}

/// The names in `counter!("…")`, `gauge!("…")` and `histogram!("…")` in the source of all crates.
fn recorded() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in crate::sources::sources() {
        for call in ["counter!(\"off_", "gauge!(\"off_", "histogram!(\"off_"] {
            let names_of_kind = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
            names.extend(names_of_kind.map(|name| format!("off_{name}")));
        }
    }
    names
}

#[test]
fn every_recorded_metric_is_declared_and_every_declared_metric_is_recorded() {
    let declared: BTreeSet<String> = declared().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(recorded(), declared);
}

#[test]
fn every_panel_and_alert_uses_existing_metrics() {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder().join("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3, "{files:?}");
    files.push(folder().join("alerts.yml"));
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let words = metrics_in(&text);
        assert!(!words.is_empty(), "{} uses no metric of off", file.display());
        let unknown: Vec<_> = words.iter().filter(|word| !is_metric(word)).collect();
        assert!(unknown.is_empty(), "{} uses {unknown:?}, which do not exist", file.display());
    }
}

#[test]
fn every_dashboard_is_well_formed() {
    for entry in fs::read_dir(folder().join("grafana/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let (titles, ids): (BTreeSet<_>, BTreeSet<_>) =
            panels.iter().map(|panel| (panel["title"].to_string(), panel["id"].to_string())).unzip();
        assert_eq!((titles.len(), ids.len()), (panels.len(), panels.len()), "{} has duplicate panels", path.display());
        for panel in panels {
            assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{panel}");
            let position = &panel["gridPos"];
            assert!(position["x"].as_u64().unwrap() + position["w"].as_u64().unwrap() <= 24, "{panel}");
        }
    }
}
