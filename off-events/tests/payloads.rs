//! Golden files of the payloads. After the first release a file in `payloads/` never changes: an incompatible payload is
//! then a new version with its own file.

#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

use chrono::{DateTime, Utc};
use off_events::{
    Barcode, LowBalance, Money, Order, OrderId, OrderStatus, Quantity, RandomBarcode, RandomDevice, RandomRequest,
    ReadyToShip, Refusal, Revoked, ShipReply, ShipRequest, SsdId, StockConsumed, StockLow, UserId, UserRegistered,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt::Debug, path::Path};

/// Asserts that `value` serializes to the golden file, and that the file deserializes to `value`, also with an unknown
/// field, which a later version may add.
fn assert_matches_file<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let mut payload: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_value(value).unwrap(), payload, "serialization differs from {name}");
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "deserialization of {name}");
    payload["a_field_of_a_later_version"] = Value::Bool(true);
    assert_eq!(
        &serde_json::from_value::<T>(payload).unwrap(),
        value,
        "deserialization of {name} with an unknown field"
    );
}

fn time() -> DateTime<Utc> {
    "2026-01-01T12:00:00.000007Z".parse().unwrap()
}

fn barcode() -> Barcode {
    "2000000000015".parse().unwrap()
}

fn order_id() -> OrderId {
    OrderId("01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap())
}

fn order() -> Order {
    Order {
        id: order_id(),
        ssd_id: SsdId(42),
        user_id: UserId(7),
        barcode: barcode(),
        timestamp: time(),
        quantity: Quantity::try_from(6).unwrap(),
        unit_price: Money::from_cents(249).unwrap(),
        total: Money::from_cents(1494).unwrap(),
        status: OrderStatus::Pending,
        refusal: None,
    }
}

#[test]
fn orders_match_version_1() {
    assert_matches_file("order.v1.json", &order());
    let refusal = Some(Refusal::InsufficientFunds { missing: Money::from_cents(94).unwrap() });
    assert_matches_file("order_refused.v1.json", &Order { status: OrderStatus::Refused, refusal, ..order() });
}

#[test]
fn requests_to_ship_match_version_1() {
    let orders = vec![ReadyToShip { id: order_id(), at: time() }];
    assert_matches_file("ship_request.v1.json", &ShipRequest { orders });
    assert_matches_file("ship_reply.v1.json", &ShipReply { shipped: vec![order_id()] });
}

#[test]
fn revocations_match_version_1() {
    let sid = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    assert_matches_file("revoked.v1.json", &Revoked { sid, until: time() });
}

#[test]
fn registrations_match_version_1() {
    let registered = UserRegistered { id: UserId(7), ssd_ids: vec![SsdId(41), SsdId(42)], timestamp: time() };
    assert_matches_file("user_registered.v1.json", &registered);
}

#[test]
fn low_balances_match_version_1() {
    let order_id = OrderId("01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap());
    let low = LowBalance { user_id: UserId(7), order_id, threshold: Money::from_euros(20), timestamp: time() };
    assert_matches_file("low_balance.v1.json", &low);
}

#[test]
fn stock_events_match_version_1() {
    let report = StockConsumed {
        id: "report-1".to_owned(),
        ssd_id: SsdId(42),
        barcode: barcode(),
        quantity: Quantity::try_from(2).unwrap(),
        timestamp: time(),
    };
    assert_matches_file("stock_consumed.v1.json", &report);
    let low = StockLow { ssd_id: SsdId(42), barcode: barcode(), quantity: 1, reorder_point: 2, timestamp: time() };
    assert_matches_file("stock_low.v1.json", &low);
}

#[test]
fn random_requests_and_responses_match_version_1() {
    let request = RandomRequest { ssd_id: Some(SsdId(42)), product_seed: Some(7) };
    assert_matches_file("random_request.v1.json", &request);
    assert_matches_file("random_device.v1.json", &RandomDevice { ssd_id: Some(SsdId(42)) });
    assert_matches_file("random_barcode.v1.json", &RandomBarcode { barcode: Some(barcode()) });
}
