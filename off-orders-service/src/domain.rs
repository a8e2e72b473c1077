//! Domain types and rules: order requests, idempotency keys and the history of an order.

use chrono::{DateTime, Utc};
use off_events::{Barcode, InvalidValue, Money, Order, OrderId, OrderStatus, Quantity, SsdId, UserId};
use off_kit::{
    auth::RowAccess,
    fields::{FieldError, Fields, Object, Raw},
    http::IdempotencyKey,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::{NoContext, Timestamp, Uuid};

/// The body of `POST /api/orders`.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(crate) struct NewOrder {
    /// The device whose shelf the products are for.
    #[serde(default)]
    #[schema(value_type = i64, required, example = 42)]
    ssd_id: Raw,
    #[serde(default)]
    #[schema(value_type = String, required, example = "2000000000015")]
    barcode: Raw,
    /// How many units, 1 to 1000.
    #[serde(default)]
    #[schema(value_type = i64, required, minimum = 1, maximum = 1000, example = 3)]
    quantity: Raw,
    /// The price of the order that the client expects. If it is another one, no order is placed.
    #[serde(default)]
    #[schema(value_type = Option<Money>)]
    expected_total: Raw,
}

impl NewOrder {
    /// Returns the order without its price, or an error for every invalid field.
    pub(crate) fn validate(&self, now: DateTime<Utc>) -> Result<Draft, Vec<FieldError>> {
        let mut fields = Fields::default();
        let ssd_id = fields.integer("ssd_id", &self.ssd_id).and_then(|id| fields.check("ssd_id", ssd(id)));
        let barcode = fields.text("barcode", &self.barcode);
        let barcode = barcode.and_then(|barcode| fields.check("barcode", barcode.parse::<Barcode>()));
        let units = fields.integer("quantity", &self.quantity);
        let quantity = units.and_then(|units| fields.check("quantity", Quantity::try_from(units)));
        let expected_total = fields.optional("expected_total", &self.expected_total);
        let expected_total = expected_total.map(|total| total.map(|Object(total)| total));
        let product = ssd_id.zip(barcode);
        let draft = product.zip(quantity.zip(expected_total)).map(|((ssd_id, barcode), (quantity, expected_total))| {
            Draft { id: id_at(now), ssd_id, barcode, timestamp: now, quantity, expected_total }
        });
        fields.finish(draft)
    }
}

/// A requested order, before it has an owner and a price.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) id: OrderId,
    pub(crate) ssd_id: SsdId,
    pub(crate) barcode: Barcode,
    pub(crate) timestamp: DateTime<Utc>,
    pub(crate) quantity: Quantity,
    /// The price of the order that the client expects.
    pub(crate) expected_total: Option<Money>,
}

impl Draft {
    /// The order of this person at this price, with status `pending`. `None` if its price is too high.
    pub(crate) fn priced(self, user_id: UserId, unit_price: Money) -> Option<Order> {
        let Self { id, ssd_id, barcode, timestamp, quantity, .. } = self;
        let total = unit_price.checked_mul(quantity)?;
        let status = OrderStatus::Pending;
        Some(Order { id, ssd_id, user_id, barcode, timestamp, quantity, unit_price, total, status, refusal: None })
    }
}

/// Returns an id for an order that is placed at `time`. Recovery finds orders by the time that their ids begin with, so
/// the id must begin with exactly this time. `Uuid::now_v7` does not fit: its ids never go back, even after a clock
/// that was ahead.
fn id_at(time: DateTime<Utc>) -> OrderId {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    OrderId(Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, time.timestamp_subsec_nanos())))
}

fn ssd(id: i64) -> Result<SsdId, InvalidValue> {
    if id > 0 { Ok(SsdId(id)) } else { Err(InvalidValue("a device id must be greater than 0")) }
}

/// A valid order with its key, before it is stored.
#[derive(Debug)]
pub(crate) struct OrderRequest {
    pub(crate) draft: Draft,
    pub(crate) key: Option<IdempotencyKey>,
    /// For whose devices the caller may order.
    pub(crate) access: RowAccess,
}

/// Whether an order and a draft have the same device, product and quantity.
pub(crate) fn is_same_request(order: &Order, draft: &Draft) -> bool {
    (order.ssd_id, &order.barcode, order.quantity) == (draft.ssd_id, &draft.barcode, draft.quantity)
}

/// An order with its history.
#[derive(Debug)]
pub(crate) struct OrderWithHistory {
    pub(crate) order: Order,
    /// The key of the request that placed it.
    pub(crate) idempotency_key: Option<String>,
    /// Each status that the order has reached, oldest first.
    pub(crate) history: Vec<Step>,
    /// Each time when recovery announced it again, with the status that it had, oldest first.
    pub(crate) announced_again: Vec<Step>,
}

/// A status that an order reached, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) status: OrderStatus,
    pub(crate) at: DateTime<Utc>,
}

/// A product of the catalog. Its data are those of [Open Food Facts](https://world.openfoodfacts.org) (ODbL), except the price.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Product {
    #[schema(value_type = String, example = "2000000000015")]
    pub(crate) barcode: Barcode,
    pub(crate) name: String,
    pub(crate) brands: Vec<String>,
    /// What a unit holds, as its package says.
    #[schema(example = "500 g")]
    pub(crate) quantity: String,
    pub(crate) unit_price: Money,
    /// Where the price is from: `open-prices`, or `invented`.
    #[schema(example = "invented")]
    pub(crate) price_source: String,
    /// The grade of its Nutri-Score, `a` (best) to `e`.
    #[schema(example = "a")]
    pub(crate) nutriscore: String,
    /// How processed it is (NOVA): 1 (unprocessed) to 4 (ultra-processed).
    #[schema(example = 1)]
    pub(crate) nova_group: i16,
    /// The energy of 100 g.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kcal_100g: Option<f64>,
    pub(crate) nutrient_levels: NutrientLevels,
    /// The tags of its categories.
    #[schema(example = json!(["en:teas"]))]
    pub(crate) categories: Vec<String>,
    /// The photo of its front, at images.openfoodfacts.org (CC BY-SA).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_url: Option<String>,
    /// Whether it is no longer sold.
    pub(crate) is_obsolete: bool,
}

/// How much of a nutrient a product has: `low`, `moderate` or `high`; absent if unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct NutrientLevels {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fat: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) saturated_fat: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sugars: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) salt: Option<String>,
}

/// How many orders there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Counts {
    /// All orders ever placed.
    pub(crate) placed: i64,
    /// Those that wait for their payment.
    pub(crate) pending: i64,
    /// Those that the supplier has.
    pub(crate) paid: i64,
    /// Those that are on their way.
    pub(crate) shipped: i64,
    /// Those that are over: completed, refused or cancelled.
    pub(crate) ended: i64,
}

/// When an order reached its statuses.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "the names of the columns")]
pub(crate) struct Times {
    pub(crate) placed_at: DateTime<Utc>,
    pub(crate) paid_at: Option<DateTime<Utc>>,
    pub(crate) shipped_at: Option<DateTime<Utc>>,
    pub(crate) completed_at: Option<DateTime<Utc>>,
    /// When it was refused or cancelled.
    pub(crate) ended_at: Option<DateTime<Utc>>,
}

/// The history of an order with this status. A status without a time is left out, even if a later one has arrived.
pub(crate) fn history(status: OrderStatus, times: &Times) -> Vec<Step> {
    let ended = matches!(status, OrderStatus::Refused | OrderStatus::Cancelled).then_some(times.ended_at).flatten();
    let steps = [
        (OrderStatus::Pending, Some(times.placed_at)),
        (OrderStatus::Paid, times.paid_at),
        (OrderStatus::Shipped, times.shipped_at),
        (OrderStatus::Completed, times.completed_at),
        (status, ended),
    ];
    steps.into_iter().filter_map(|(status, at)| Some(Step { status, at: at? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn new_order(ssd_id: i64, barcode: &str, quantity: i64) -> NewOrder {
        serde_json::from_value(serde_json::json!({"ssd_id": ssd_id, "barcode": barcode, "quantity": quantity})).unwrap()
    }

    #[test]
    fn every_invalid_field_is_reported_at_once() {
        let errors = new_order(0, "abc", 1001).validate(DateTime::UNIX_EPOCH).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["ssd_id", "barcode", "quantity"]);
    }

    #[test]
    fn a_history_leaves_out_a_status_without_a_time() {
        let at = Some(DateTime::UNIX_EPOCH);
        let times = Times {
            placed_at: DateTime::UNIX_EPOCH,
            paid_at: None,
            shipped_at: None,
            completed_at: at,
            ended_at: None,
        };
        let statuses =
            |status, times: &Times| history(status, times).iter().map(|step| step.status).collect::<Vec<_>>();
        let completed = [OrderStatus::Pending, OrderStatus::Completed];
        assert_eq!(statuses(OrderStatus::Completed, &times), completed);
        let cancelled = Times { paid_at: at, completed_at: None, ended_at: at, ..times };
        let expected = [OrderStatus::Pending, OrderStatus::Paid, OrderStatus::Cancelled];
        assert_eq!(statuses(OrderStatus::Cancelled, &cancelled), expected);
    }

    proptest! {
        #[test]
        fn only_valid_requests_are_accepted(ssd in any::<i64>(), barcode in "[0-9a-z]{0,15}", quantity in -5i64..1200) {
            let placed = new_order(ssd, &barcode, quantity).validate(DateTime::UNIX_EPOCH);
            let valid = ssd > 0 && barcode.parse::<Barcode>().is_ok() && (1..=1000).contains(&quantity);
            prop_assert_eq!(placed.is_ok(), valid);
            if let Ok(draft) = placed {
                prop_assert_eq!(i64::from(draft.quantity.get()), quantity);
            }
        }

        #[test]
        fn an_id_begins_with_the_time(millis in 0i64..(1 << 45), micros in 0i64..1000) {
            let time = DateTime::from_timestamp_micros(millis * 1000 + micros).unwrap();
            prop_assert_eq!(i128::try_from(id_at(time).0.as_u128() >> 80).unwrap(), i128::from(millis));
        }
    }
}
