//! The OpenAPI document.

use off_kit::Service;
use off_notifications_service::NotificationsService;

#[test]
fn the_openapi_document_matches_its_snapshot() {
    insta::assert_json_snapshot!(NotificationsService::openapi());
}
