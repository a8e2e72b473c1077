//! The OpenAPI document.

use off_kit::Service;
use off_users_service::UsersService;

#[test]
fn the_document_is_what_was_agreed() {
    insta::assert_json_snapshot!(UsersService::openapi());
}
