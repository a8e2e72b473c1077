//! The OpenAPI document.

use off_auth_service::AuthService;
use off_kit::Service;

#[test]
fn the_openapi_document_matches_its_snapshot() {
    insta::assert_json_snapshot!(AuthService::openapi());
}
