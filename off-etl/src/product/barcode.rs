//! The barcode of a product.

use crate::{lenient::Lenient, record::Record};
use off_events::Barcode;

/// The barcode in normal form; `None` if it is absent or invalid.
pub(super) fn barcode(record: &Record) -> Option<Barcode> {
    let code = match &record.code {
        // A float that is too large to be exact would be the barcode of another product.
        Lenient::Number(_) => record.code.whole().map(|code| code.to_string()),
        code => code.text(),
    };
    code?.trim().parse().ok()
}
