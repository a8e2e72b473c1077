//! Letters: what each kind is about.

use chrono::{DateTime, Utc};
use off_events::{InvalidValue, LowBalance, Money, Order, Refusal, UserId, UserRegistered};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use utoipa::ToSchema;
use uuid::Uuid;

/// What a letter tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LetterKind {
    /// The person registered.
    Welcome,
    /// An order is paid: the letter of happiness.
    Paid,
    /// The account had too little money for an order: the letter of sorrow.
    Refused,
    /// An order was cancelled.
    Cancelled,
    /// The products of an order are on the shelf.
    Delivered,
    /// The balance fell below a threshold.
    LowBalance,
}

impl LetterKind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Welcome, Self::Paid, Self::Refused, Self::Cancelled, Self::Delivered, Self::LowBalance];

    /// Its name in SQL, JSON and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::Paid => "paid",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Delivered => "delivered",
            Self::LowBalance => "low_balance",
        }
    }
}

impl FromStr for LetterKind {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        const UNKNOWN: InvalidValue =
            InvalidValue("a letter is welcome, paid, refused, cancelled, delivered or low_balance");
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UNKNOWN)
    }
}

/// What a letter is about, as far as its kind needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The product that was ordered.
    pub(crate) barcode: Option<String>,
    /// Units ordered.
    pub(crate) quantity: Option<i32>,
    /// The price of the order; for a low balance the threshold.
    pub(crate) total: Option<Money>,
    /// How much money was missing.
    pub(crate) missing: Option<Money>,
}

/// A letter to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewLetter {
    /// The order, or the number of the person. There is one letter per subject and kind.
    pub(crate) subject: Uuid,
    pub(crate) kind: LetterKind,
    pub(crate) user: UserId,
    pub(crate) facts: Facts,
}

impl NewLetter {
    /// The letter `kind` about an order.
    pub(crate) fn about_order(kind: LetterKind, order: &Order) -> Self {
        let missing = order.refusal.map(|Refusal::InsufficientFunds { missing }| missing);
        let facts = Facts {
            barcode: Some(order.barcode.to_string()),
            quantity: Some(order.quantity.get()),
            total: Some(order.total),
            missing: missing.filter(|_| kind == LetterKind::Refused),
        };
        Self { subject: order.id.0, kind, user: order.user_id, facts }
    }

    /// The letter to a person who registered.
    pub(crate) fn welcome(person: &UserRegistered) -> Self {
        let subject = Uuid::from_u128(u128::from(person.id.0.unsigned_abs()));
        Self { subject, kind: LetterKind::Welcome, user: person.id, facts: Facts::default() }
    }

    /// The letter to a person whose balance became low.
    pub(crate) fn about_low_balance(low: &LowBalance) -> Self {
        let facts = Facts { total: Some(low.threshold), ..Facts::default() };
        Self { subject: low.order_id.0, kind: LetterKind::LowBalance, user: low.user_id, facts }
    }
}

/// A letter that is stored, with the names that its text needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) id: i64,
    pub(crate) subject: Uuid,
    pub(crate) kind: LetterKind,
    pub(crate) facts: Facts,
    /// The first name of the person, as they wrote it.
    pub(crate) first_name: String,
    /// The name of the product today.
    pub(crate) product: Option<String>,
    pub(crate) written_at: DateTime<Utc>,
    pub(crate) is_read: bool,
}
