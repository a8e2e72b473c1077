//! Who may know whom.

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::collections::{BTreeMap, BTreeSet};

/// The crates of the workspace that each crate is built on.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = format!("{}/../Cargo.toml", env!("CARGO_MANIFEST_DIR"));
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    metadata
        .packages
        .iter()
        .map(|package| {
            let built_on =
                package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
            let built_on = built_on.map(|dependency| dependency.name.clone()).collect();
            (package.name.to_string(), built_on)
        })
        .collect()
}

#[test]
fn services_meet_in_off_events_and_on_the_wire_only() {
    let dependencies = dependencies();
    let services = ["off-users-service", "off-orders-service", "off-notifications-service", "off-generator", "off-etl"];
    for service in services {
        let ours: BTreeSet<&str> =
            dependencies[service].iter().map(String::as_str).filter(|name| name.starts_with("off-")).collect();
        assert_eq!(ours, BTreeSet::from(["off-events", "off-kit"]), "{service}");
    }
}

#[test]
fn the_words_on_the_wire_know_no_machinery() {
    for machinery in ["sqlx", "axum", "async-nats", "tokio", "reqwest", "off-kit"] {
        assert!(!dependencies()["off-events"].contains(machinery), "off-events is built on {machinery}");
    }
}

#[test]
fn who_has_no_tables_knows_no_database() {
    for name in ["off-notifications-service", "off-generator"] {
        assert!(!dependencies()[name].contains("sqlx"), "{name} is built on sqlx");
    }
}

#[test]
fn nothing_that_ships_is_built_on_the_testkit() {
    for (name, built_on) in dependencies() {
        assert!(!built_on.contains("off-testkit"), "{name} is built on off-testkit");
    }
}

#[test]
fn the_scripts_and_the_code_ask_for_the_same_versions() {
    let prepare = std::fs::read_to_string(format!("{}/../scripts/prepare", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (major, minor, _) = off_kit::bus::OLDEST_SERVER;
    let postgres = off_kit::servers::OLDEST_POSTGRES;
    for line in [
        format!("nats_oldest={major}.{minor}\n"),
        format!("postgres_version={postgres}\n"),
        format!("rust_version={}\n", env!("CARGO_PKG_RUST_VERSION")),
    ] {
        assert!(prepare.contains(&line), "scripts/prepare does not say {line}");
    }
}
