//! The OpenAPI document.

use off_generator::Generator;
use off_kit::Service;

#[test]
fn the_document_is_what_was_agreed() {
    insta::assert_json_snapshot!(Generator::openapi());
}
