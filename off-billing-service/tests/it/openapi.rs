//! The OpenAPI document.

use off_billing_service::BillingService;
use off_kit::Service;

#[test]
fn the_openapi_document_matches_its_snapshot() {
    insta::assert_json_snapshot!(BillingService::openapi());
}
