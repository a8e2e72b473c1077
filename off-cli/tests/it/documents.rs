//! The API documents that `off` prints.

use crate::{off, stdout};
use std::{collections::BTreeSet, path::Path};

fn committed(document: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(document);
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn printed_documents_in_docs_are_up_to_date() {
    for (command, document) in [("asyncapi", "asyncapi.json"), ("settings", "settings.md")] {
        let printed = stdout(&off(&[command]).output().await.unwrap());
        assert!(
            committed(document) == printed,
            "docs/{document} is out of date: write it with `target/debug/off {command} > docs/{document}`"
        );
    }
}

#[tokio::test]
async fn the_api_design_lists_exactly_the_problem_codes_of_the_services() {
    let mut codes = BTreeSet::new();
    for service in ["auth", "users", "orders", "billing", "operator", "gateway"] {
        let printed = stdout(&off(&["openapi", service]).output().await.unwrap());
        let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let listed = document.pointer("/components/schemas/Problem/properties/code/enum").unwrap().as_array().unwrap();
        codes.extend(listed.iter().map(|code| code.as_str().unwrap().to_owned()));
    }
    let design = committed("api-design.md");
    let rows = design.lines().skip_while(|line| !line.starts_with("| `code`")).skip(2);
    let first_columns = rows.map_while(|line| line.strip_prefix("| ")?.split(" |").next());
    let documented: BTreeSet<String> =
        first_columns.flat_map(|column| column.split(", ")).map(|code| code.trim_matches('`').to_owned()).collect();
    assert_eq!(documented, codes);
}

#[tokio::test]
async fn every_service_prints_its_openapi_document() {
    for (service, path) in [
        ("users", "/api/register"),
        ("orders", "/api/orders"),
        ("billing", "/api/account"),
        ("notifications", "/readyz"),
        ("operator", "/api/operator/dead-letters"),
        ("generator", "/readyz"),
    ] {
        let printed = stdout(&off(&["openapi", service]).output().await.unwrap());
        let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        assert!(document["paths"].get(path).is_some(), "{service} does not document {path}");
    }
}
