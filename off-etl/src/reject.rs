//! Reasons for which a record is rejected.

use serde::{Deserialize, Serialize};

/// Why a record cannot become a product. If several reasons apply, the first in this order counts.
///
/// Its display text is what reports, metrics and `catalog.rejects` show. Its serialized name is stored with the report
/// of an import and must not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum RejectReason {
    /// The line or row is longer than the importer reads.
    #[error("longer than 4 MiB")]
    TooLong,
    /// The line is not a JSON object, even after corrections.
    #[error("not JSON, or not an object")]
    NotJson,
    /// The row of a table does not match its header.
    #[error("a row with another number of columns than the header")]
    BadRow,
    /// The barcode is absent, or is not the number of a product.
    #[error("no barcode, or one that is not digits")]
    NoBarcode,
    /// There is no name in any language.
    #[error("no name")]
    NoName,
    /// The text of the quantity on the pack is absent.
    #[error("no quantity")]
    NoQuantity,
    /// A state tag that the profile needs is absent.
    #[error("a mandatory state tag is missing")]
    MissingState,
    /// There is neither the URL nor the revision of a front photo.
    #[error("no front photo")]
    NoPhoto,
    /// The NOVA group is absent or out of range.
    #[error("NOVA group absent or outside 1 to 4")]
    NovaGroup,
    /// The Nutri-Score is out of range; it may be absent.
    #[error("Nutri-Score outside -18 to 55")]
    NutriscoreScore,
    /// The grade of the Nutri-Score is absent or out of range.
    #[error("Nutri-Score grade absent or outside a to e")]
    NutriscoreGrade,
}
