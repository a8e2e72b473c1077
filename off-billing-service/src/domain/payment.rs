//! The payments of people: deposits and withdrawals, and their reversals.

use super::TransferKind;
use off_events::{InvalidValue, Money, UserId};
use off_kit::{
    fields::{FieldError, Fields, Object, Raw},
    http::IdempotencyKey,
    text::{is_blank, is_direction},
};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Builder;
use uuid::Uuid;

/// The largest deposit or withdrawal, in cents: 10,000 EUR.
const MAX_CENTS: i64 = 1_000_000;

/// Whether money is paid in or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PaymentKind {
    Deposit,
    Withdrawal,
}

impl PaymentKind {
    pub(crate) fn transfer_kind(self) -> TransferKind {
        match self {
            Self::Deposit => TransferKind::Deposit,
            Self::Withdrawal => TransferKind::Withdrawal,
        }
    }
}

/// The body of a deposit or withdrawal.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(crate) struct NewPayment {
    /// At least one cent, at most 10,000 EUR.
    #[serde(default)]
    #[schema(value_type = Money, required)]
    amount: Raw,
}

impl NewPayment {
    /// The amount, or the error of the field.
    pub(crate) fn validate(&self) -> Result<Money, Vec<FieldError>> {
        let mut fields = Fields::default();
        let amount = fields.value("amount", &self.amount);
        let amount = amount.and_then(|Object(amount)| fields.check("amount", limited(amount)));
        fields.finish(amount)
    }
}

fn limited(amount: Money) -> Result<Money, InvalidValue> {
    match amount.cents() {
        1..=MAX_CENTS => Ok(amount),
        _ => Err(InvalidValue("an amount is at least one cent and at most 10,000 EUR")),
    }
}

/// A valid deposit or withdrawal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payment {
    pub(crate) kind: PaymentKind,
    pub(crate) user: UserId,
    pub(crate) amount: Money,
    /// Its id, which follows from the person and the `Idempotency-Key`, so that a repeated request has the same id.
    pub(crate) id: Uuid,
}

impl Payment {
    pub(crate) fn new(kind: PaymentKind, user: UserId, amount: Money, key: &IdempotencyKey) -> Self {
        let name = format!("{}:{user}:{}", kind.transfer_kind().as_str(), key.as_str());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest(&SHA256, name.as_bytes()).as_ref()[..16]);
        Self { kind, user, amount, id: Builder::from_custom_bytes(bytes).into_uuid() }
    }
}

/// The body of a reversal.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(crate) struct NewReversal {
    /// The `id` of the deposit or withdrawal.
    #[serde(default)]
    #[schema(value_type = Uuid, required)]
    subject: Raw,
    /// Why, for the person: 1 to 200 characters.
    #[serde(default)]
    #[schema(value_type = String, required, example = "paid in twice by the bank")]
    reason: Raw,
}

impl NewReversal {
    /// The deposit or withdrawal, and the reason; or an error for every invalid field.
    pub(crate) fn validate(&self) -> Result<(Uuid, String), Vec<FieldError>> {
        let mut fields = Fields::default();
        let subject = fields.value::<Uuid>("subject", &self.subject);
        let reason = fields.text("reason", &self.reason).and_then(|text| fields.check("reason", reason(text)));
        fields.finish(subject.zip(reason))
    }
}

fn reason(text: &str) -> Result<String, InvalidValue> {
    let text = text.trim();
    match text.chars().count() {
        1..=200 if !is_blank(text) && !text.contains(|c: char| c.is_control() || is_direction(c)) => {
            Ok(text.to_owned())
        }
        _ => Err(InvalidValue("a reason has 1 to 200 printable characters")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_payment_is_one_cent_to_ten_thousand_euros() {
        let validate = |amount| serde_json::from_value::<NewPayment>(json!({"amount": amount})).unwrap().validate();
        for (cents, is_valid) in [(-1, false), (0, false), (1, true), (1_000_000, true), (1_000_001, false)] {
            assert_eq!(validate(json!({"amount": cents, "currency": "EUR"})).is_ok(), is_valid, "{cents}");
        }
        for wrong in [json!(5), json!("5 EUR"), json!([5, "EUR"]), json!({"amount": 5, "currency": "USD"}), json!(null)]
        {
            assert!(validate(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_id_of_a_payment_follows_from_its_kind_its_person_and_its_key() {
        let key = |text: &str| IdempotencyKey::try_from(text.as_bytes()).unwrap();
        let id = |kind, user, text| Payment::new(kind, UserId(user), Money::ZERO, &key(text)).id;
        let first = id(PaymentKind::Deposit, 1, "a");
        assert_eq!(first, id(PaymentKind::Deposit, 1, "a"));
        assert_eq!(first.get_version_num(), 8);
        for other in
            [id(PaymentKind::Withdrawal, 1, "a"), id(PaymentKind::Deposit, 2, "a"), id(PaymentKind::Deposit, 1, "b")]
        {
            assert_ne!(first, other);
        }
    }
}
