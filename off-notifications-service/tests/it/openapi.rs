//! The OpenAPI document.

use off_kit::Service;
use off_notifications_service::NotificationsService;

#[test]
fn the_document_is_what_was_agreed() {
    insta::assert_json_snapshot!(NotificationsService::openapi());
}
