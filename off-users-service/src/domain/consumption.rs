//! Reports of consumption that arrive over HTTP.

use super::check;
use chrono::{DateTime, Utc};
use off_events::{Barcode, InvalidValue, Quantity, SsdId, StockConsumed};
use off_kit::fields::{FieldError, Fields, Object, Raw};
use serde::Deserialize;
use utoipa::ToSchema;

/// Maximum number of reports in a request.
const MAX_REPORTS: usize = 500;

/// The request body with which a device reports consumption.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(crate) struct NewConsumptions {
    /// 1 to 500 reports.
    #[serde(default)]
    #[schema(value_type = Vec<NewConsumption>, required, min_items = 1, max_items = 500)]
    consumptions: Vec<Object<NewConsumption>>,
}

/// Units of a product that were taken off a shelf.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
struct NewConsumption {
    /// Chosen by the device; a repetition of the same report has the same id. 1 to 100 characters.
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 100, example = "1765")]
    id: Raw,
    #[serde(default)]
    #[schema(value_type = String, required, example = "2000000000015")]
    barcode: Raw,
    #[serde(default)]
    #[schema(value_type = i32, required, minimum = 1, maximum = 1000, example = 3)]
    quantity: Raw,
    /// When the units were taken, by the device's own clock.
    #[serde(default)]
    #[schema(value_type = DateTime<Utc>, required)]
    timestamp: Raw,
}

/// Whether a report may have this id.
pub(crate) fn is_report_id(id: &str) -> bool {
    (1..=StockConsumed::MAX_ID_LENGTH).contains(&id.chars().count()) && !id.chars().any(char::is_control)
}

fn report_id(text: &str) -> Result<String, InvalidValue> {
    if is_report_id(text) {
        Ok(text.to_owned())
    } else {
        Err(InvalidValue("the id of a report has 1 to 100 printable characters"))
    }
}

fn timestamp(text: &str) -> Result<DateTime<Utc>, InvalidValue> {
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.with_timezone(&Utc));
    time.map_err(|_| InvalidValue("a time looks like 2026-01-01T12:00:00Z"))
}

impl NewConsumptions {
    /// Validates the reports of a device. Returns the errors of all invalid fields.
    pub(crate) fn check(self, ssd_id: SsdId) -> Result<Vec<StockConsumed>, Vec<FieldError>> {
        let mut fields = Fields::default();
        let count = match self.consumptions.len() {
            1..=MAX_REPORTS => Ok(()),
            _ => Err(InvalidValue("a request has 1 to 500 reports")),
        };
        fields.check("consumptions", count);
        let mut reports = Vec::with_capacity(self.consumptions.len().min(MAX_REPORTS));
        for (index, Object(new)) in self.consumptions.iter().take(MAX_REPORTS).enumerate() {
            let field = |name| format!("consumptions[{index}].{name}");
            let id = check(&mut fields, &field("id"), &new.id, report_id);
            let barcode = check(&mut fields, &field("barcode"), &new.barcode, str::parse::<Barcode>);
            let quantity = fields.integer(&field("quantity"), &new.quantity);
            let quantity = quantity.and_then(|units| fields.check(field("quantity"), Quantity::try_from(units)));
            let timestamp = check(&mut fields, &field("timestamp"), &new.timestamp, timestamp);
            let report = id.zip(barcode).zip(quantity).zip(timestamp);
            reports.extend(report.map(|(((id, barcode), quantity), timestamp)| StockConsumed {
                id,
                ssd_id,
                barcode,
                quantity,
                timestamp,
            }));
        }
        fields.finish(Some(reports))
    }

    /// The path of the barcode of a report in the body.
    pub(crate) fn barcode_field(index: usize) -> String {
        format!("consumptions[{index}].barcode")
    }
}
