//! Reasons for which a price of an export is not used.

/// Why a price is not used. If several reasons apply, the first in this order counts. Its display text is what the
/// report shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum PriceReject {
    /// The line is not a JSON object, or is longer than the importer reads.
    #[error("not JSON, not an object, or longer than 4 MiB")]
    Unreadable,
    /// The barcode is absent, or is not the number of a product: many prices are of fruits and vegetables without one.
    #[error("no barcode, or one that is not digits")]
    NoBarcode,
    /// The price is absent, zero, negative, or implausibly high.
    #[error("no price, or one that is not plausible")]
    NoPrice,
    /// The currency is absent, or ISO 4217 does not list it.
    #[error("no currency, or an unknown one")]
    NoCurrency,
    /// The date is absent, before 1970, or in the future.
    #[error("no date, or one in the future")]
    NoDate,
    /// The price is not the usual one.
    #[error("discounted")]
    Discounted,
    /// The price is from more than a year before the newest one of the export.
    #[error("older than a year")]
    TooOld,
}
