//! The OpenAPI document.

use off_kit::Service;
use off_operator_service::OperatorService;

#[test]
fn the_openapi_document_matches_its_snapshot() {
    insta::assert_json_snapshot!(OperatorService::openapi());
}
