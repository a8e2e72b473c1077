//! Which crate may depend on which, and which versions scripts and code require.

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

/// The normal and build dependencies of each crate of the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = format!("{}/../Cargo.toml", env!("CARGO_MANIFEST_DIR"));
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    metadata
        .packages
        .iter()
        .map(|package| {
            let depends_on =
                package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
            let depends_on = depends_on.map(|dependency| dependency.name.clone()).collect();
            (package.name.to_string(), depends_on)
        })
        .collect()
}

/// The services and the importer.
const SERVICES: [&str; 7] = [
    "off-users-service",
    "off-orders-service",
    "off-billing-service",
    "off-notifications-service",
    "off-operator-service",
    "off-generator",
    "off-etl",
];

/// Crates that are only for development, so that no image has them.
const FOR_DEVELOPMENT: [&str; 3] = ["off-chaos", "off-testkit", "off-bench"];

/// The crates of the workspace that `name` is built from, directly or not.
fn internal_dependencies(name: &str) -> BTreeSet<String> {
    let dependencies = dependencies();
    let (mut found, mut unread) = (BTreeSet::new(), vec![name.to_owned()]);
    while let Some(name) = unread.pop() {
        for internal in dependencies[&name].iter().filter(|name| dependencies.contains_key(*name)) {
            if found.insert(internal.clone()) {
                unread.push(internal.clone());
            }
        }
    }
    found
}

/// The packages that the Dockerfile builds.
fn packages_in_images() -> BTreeSet<String> {
    let dockerfile = std::fs::read_to_string(format!("{}/../Dockerfile", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let packages = dockerfile.split("--package ").skip(1).filter_map(|rest| rest.split_whitespace().next());
    packages.map(str::to_owned).collect()
}

#[test]
fn images_contain_nothing_that_is_for_development() {
    let packages = packages_in_images();
    assert!(packages.contains("off-cli") && packages.contains("off-orders-service"), "{packages:?}");
    for package in packages {
        assert!(!FOR_DEVELOPMENT.contains(&package.as_str()), "an image is built from {package}");
        let dependencies = internal_dependencies(&package);
        for name in FOR_DEVELOPMENT {
            assert!(!dependencies.contains(name), "{package}, which is in an image, depends on {name}");
        }
    }
}

#[test]
fn services_do_not_depend_on_each_other_not_even_indirectly() {
    for service in SERVICES {
        let dependencies = internal_dependencies(service);
        for other in SERVICES.into_iter().chain(["off-cli", "off-servers"]) {
            assert!(!dependencies.contains(other), "{service} depends on {other}");
        }
    }
}

#[test]
fn services_depend_on_no_service() {
    let dependencies = dependencies();
    for service in SERVICES {
        let internal = dependencies[service].iter().filter(|name| name.starts_with("off-"));
        let unwanted: Vec<_> = internal
            .filter(|name| !["off-audit", "off-events", "off-kit", "off-migrations"].contains(&name.as_str()))
            .collect();
        assert!(unwanted.is_empty(), "{service} depends on {unwanted:?}");
    }
}

/// All crates that `name` is built from, whatever the features that other crates need.
fn transitive_dependencies(name: &str) -> BTreeSet<String> {
    let cargo = Command::new(env!("CARGO"))
        .args(["tree", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let tree = String::from_utf8_lossy(&cargo.stdout).into_owned();
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn off_events_depends_on_no_infrastructure() {
    let dependencies = transitive_dependencies("off-events");
    assert!(dependencies.contains("serde_json"), "{dependencies:?}");
    for infrastructure in ["sqlx", "axum", "async-nats", "tokio", "reqwest", "off-kit"] {
        assert!(!dependencies.contains(infrastructure), "off-events depends on {infrastructure}");
    }
}

#[test]
fn services_without_tables_do_not_depend_on_sqlx() {
    for name in ["off-gateway", "off-generator"] {
        let dependencies = transitive_dependencies(name);
        assert!(dependencies.contains("async-nats") && !dependencies.contains("sqlx"), "{name}: {dependencies:?}");
    }
    assert!(transitive_dependencies("off-orders-service").contains("sqlx"));
}

#[test]
fn only_crates_for_development_depend_on_the_testkit_outside_of_tests() {
    for (name, depends_on) in dependencies() {
        let may_depend = FOR_DEVELOPMENT.contains(&name.as_str());
        assert!(may_depend || !depends_on.contains("off-testkit"), "{name} depends on off-testkit");
    }
}

#[test]
fn scripts_and_code_require_the_same_versions() {
    let prepare = std::fs::read_to_string(format!("{}/../scripts/prepare", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (major, minor, _) = off_kit::bus::OLDEST_SERVER;
    let postgres = off_servers::OLDEST_POSTGRES;
    for line in [
        format!("nats_oldest={major}.{minor}\n"),
        format!("postgres_version={postgres}\n"),
        format!("rust_version={}\n", env!("CARGO_PKG_RUST_VERSION")),
    ] {
        assert!(prepare.contains(&line), "scripts/prepare does not contain {line}");
    }
}
