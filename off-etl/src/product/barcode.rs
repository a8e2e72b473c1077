//! The barcode of a product.

use crate::lenient::Lenient;
use off_events::Barcode;

/// The barcode in normal form; `None` if it is absent or invalid.
pub(crate) fn barcode(code: &Lenient) -> Option<Barcode> {
    let code = match code {
        // A float that is too large to be exact would be the barcode of another product.
        Lenient::Number(_) => code.whole().map(|code| code.to_string()),
        code => code.text(),
    };
    code?.trim().parse().ok()
}
