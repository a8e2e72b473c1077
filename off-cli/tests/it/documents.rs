//! The contracts that are printed and committed.

use crate::{off, stdout};
use std::path::Path;

#[tokio::test]
async fn the_asyncapi_document_in_docs_is_the_codes_own() {
    let printed = stdout(&off(&["asyncapi"]).output().await.unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/asyncapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        committed == printed,
        "docs/asyncapi.json is out of date: write it with `target/debug/off asyncapi > docs/asyncapi.json`"
    );
}

#[tokio::test]
async fn every_service_prints_its_openapi_document() {
    for (service, path) in
        [("users", "/api/register"), ("orders", "/api/orders"), ("notifications", "/readyz"), ("generator", "/readyz")]
    {
        let printed = stdout(&off(&["openapi", service]).output().await.unwrap());
        let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        assert!(document["paths"].get(path).is_some(), "{service} does not document {path}");
    }
}
