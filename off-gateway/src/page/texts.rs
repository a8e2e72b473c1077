//! The texts that people read and that are not in `templates/`. Scripts take theirs from attributes in the templates.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use off_events::{Money, Order, OrderStatus, StockConsumed, StockLow};
use std::fmt::Display;

// The system.

/// The name of a stage, by the subject of the events that leave it.
pub(super) fn stage(subject: &str) -> &'static str {
    match subject {
        StockConsumed::SUBJECT => "Households",
        Order::PENDING => "Orders",
        Order::PAID => "Payment",
        Order::SHIPPED => "Supplier",
        Order::COMPLETED => "Delivery",
        StockLow::SUBJECT => "Shelf",
        _ => "",
    }
}

/// What happens in a stage.
pub(super) fn about_stage(subject: &str) -> &'static str {
    match subject {
        StockConsumed::SUBJECT => "consume from their shelves",
        Order::PENDING => "placed, and stored once",
        Order::PAID => "charges the account",
        Order::SHIPPED => "packs paid orders",
        Order::COMPLETED => "brings shipped orders",
        StockLow::SUBJECT => "is full again",
        _ => "",
    }
}

/// What the number of orders in a stage is.
pub(super) fn count_unit(count: &str) -> &'static str {
    match count {
        "placed" => "placed in all",
        "ended" => "orders ended, delivered or not",
        _ => "orders here now",
    }
}

/// What the rate of events that leave a stage is.
pub(super) fn rate_unit(subject: &str) -> &'static str {
    match subject {
        StockConsumed::SUBJECT => "consumptions/s",
        Order::PENDING => "orders/s",
        Order::PAID => "paid/s",
        Order::SHIPPED => "shipped/s",
        Order::COMPLETED => "delivered/s",
        StockLow::SUBJECT => "run low/s",
        _ => "/s",
    }
}

// The story of an order.

pub(super) const PLACED: &str = "The order was placed, and stored before the answer";
pub(super) const PRICE: &str = "price";
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
pub(super) const TRACE: &str = "trace";
pub(super) const STORED_AS: &str = "stored as";
pub(super) const PROMISED: &str = "promised (UTC)";
pub(super) const PROMISED_UNTIL: &str = "promised until (UTC)";
pub(super) const LATE_BY: &str = "late by";
pub(super) const ANNOUNCED_AGAIN: &str = "announced again by recovery";
pub(super) const DELIVERIES: &str = "deliveries of its cause";

pub(super) const BROKER: &str = "the broker";
pub(super) const USERS_SERVICE: &str = "the users service";
pub(super) const BILLING_SERVICE: &str = "the billing service";
pub(super) const NOTIFICATIONS_SERVICE: &str = "the notifications service";

pub(super) fn price(order: &Order) -> String {
    format!("{} × {} = {}", order.quantity.get(), order.unit_price, order.total)
}

/// Who has to act until an order has its next status.
fn who_acts(next: &serde_json::Value) -> &'static str {
    if next == OrderStatus::Shipped.as_str() { "the supplier" } else { "the delivery firm" }
}

pub(super) fn wait_is_over(next: &serde_json::Value) -> String {
    format!("The wait for {} was over", who_acts(next))
}

pub(super) fn waits(next: &serde_json::Value) -> String {
    format!("Waits for {}", who_acts(next))
}

pub(super) fn announced_again(subject: &str) -> String {
    format!("The order was overdue: {subject} was published again")
}

pub(super) fn transfer_of_order(kind: &str, amount: Money) -> String {
    match kind {
        "charge" => format!("{amount} were charged, and held until the delivery"),
        "refund" => format!("{amount} were refunded"),
        kind => format!("{kind}: {amount}"),
    }
}

pub(super) fn delivered(quantity: i64, before: i64, after: i64) -> String {
    let units = if quantity == 1 { "1 unit was" } else { &format!("{quantity} units were") };
    format!("{units} put on the shelf: {before} before, {after} after")
}

pub(super) fn letter_was_written(subject: &str) -> String {
    format!("A letter was written: {subject}")
}

// Products and shelves.

/// The name of a NOVA group.
pub(super) fn nova_group(group: i16) -> &'static str {
    match group {
        1 => "unprocessed or minimally processed",
        2 => "a processed culinary ingredient",
        3 => "processed",
        _ => "ultra-processed",
    }
}

/// What the chart of a product shows, for those who do not see it.
pub(super) fn stock(first: i64, last: i64, delivered: i64, taken: i64, until: &DateTime<Utc>) -> String {
    let until = until.format("%H:%M UTC");
    format!(
        "Stock in the last 24 hours: from {first} to {last} units, {delivered} delivered, {taken} taken, until {until}"
    )
}

// Accounts.

/// A kind of transfer.
pub(super) fn transfer(kind: &str) -> &'static str {
    match kind {
        "deposit" => "deposit",
        "withdrawal" => "withdrawal",
        "charge" => "order",
        "refund" => "refund of an order",
        "reversal" => "reversal",
        _ => "transfer",
    }
}

/// The names of fields of the API in the forms of the page.
pub(super) const FIELDS: [(&str, &str); 11] = [
    ("user.first_name", "First name"),
    ("user.last_name", "Last name"),
    ("user.email", "E-mail address"),
    ("user.password", "Password"),
    ("devices[0].mac_address", "Device code"),
    ("mac_address", "Device code"),
    ("consumptions[0].quantity", "Units to take"),
    ("first_name", "First name"),
    ("last_name", "Last name"),
    ("old_password", "Old password"),
    ("new_password", "New password"),
];

// Operators.

/// The titles of the pages of an operator.
pub(super) const STREAMS: &str = "Streams and orders";
pub(super) const DEAD_LETTERS: &str = "Dead letters";
pub(super) const AUDIT: &str = "Audit";
pub(super) const IMPORTS: &str = "Imports";
pub(super) const FAULTS: &str = "Failure switches";

pub(super) fn size(bytes: f64, max_mib: u64) -> String {
    format!("{bytes:.1} of {max_mib} MiB")
}

// What failed, or was refused.

pub(super) const WRONG_CREDENTIALS: &str = "No account has this e-mail address and password.";
pub(super) const LATE_FORM: &str = "The form did not arrive in time.";
pub(super) const NO_KEY: &str = "The form has no valid key.";
pub(super) const NO_AMOUNT: &str = "Expected an amount like 25 or 12.50.";
pub(super) const NO_BARCODE: &str = "A barcode has 8 to 24 digits.";
pub(super) const NO_PAGE: &str = "There is no such page.";
pub(super) const NO_SHARE: &str = "Share: expected a number of percent.";
pub(super) const NO_FAULT_AMOUNT: &str = "Amount: expected a whole number.";
pub(super) const NO_SEED: &str = "Seed: expected a whole number.";
pub(super) const NO_MINUTES: &str = "Minutes: expected a whole number from 1 to 1440.";
pub(super) const ONLY_OPERATORS: &str =
    "Only operators see this page. The command `off user make-operator EMAIL` makes a registered person one.";
pub(super) const NOT_UNDERSTOOD: &str = "The address or the form has a value that is not valid.";
pub(super) const NOT_SHOWN: &str = "This page cannot be shown.";

pub(super) fn no_order(id: impl Display) -> String {
    format!("There is no order {id}.")
}

pub(super) fn no_product(barcode: &str) -> String {
    format!("There is no product {barcode}.")
}

pub(super) fn no_device(id: &str) -> String {
    format!("There is no device {id}.")
}

pub(super) fn no_service(service: &str) -> String {
    format!("There is no {service} service here.")
}

pub(super) fn no_answer(service: &str) -> String {
    format!("The {service} service does not answer. Try again in a moment.")
}

pub(super) fn not_json(error: impl Display) -> String {
    format!("The body is not JSON: {error}.")
}

pub(super) fn with_retry_after(detail: &str, seconds: &str) -> String {
    format!("{detail} (in {seconds} s)")
}

/// The title of a page for a failure.
pub(super) fn failure(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::UNAUTHORIZED => "Sign in again",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => "Not available now",
        _ => "That did not work",
    }
}
