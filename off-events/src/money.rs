//! Money.

use crate::{InvalidValue, Quantity};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// An amount of money, in cents. All amounts of off are in euros, because a ledger has one currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Amount", into = "Amount")]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The largest amount, in cents: the largest integer that is exact in every JSON reader (RFC 8259 section 6).
    pub const MAX_CENTS: i64 = (1 << 53) - 1;

    /// The amount of this many cents, from 0 to [`Money::MAX_CENTS`].
    pub fn from_cents(cents: i64) -> Result<Self, InvalidValue> {
        match cents {
            0..=Self::MAX_CENTS => Ok(Self(cents)),
            _ => Err(InvalidValue("an amount is a whole number of cents from 0 to 9007199254740991")),
        }
    }

    /// The amount of this many euros.
    pub const fn from_euros(euros: u16) -> Self {
        Self(euros as i64 * 100)
    }

    /// The cents.
    pub fn cents(self) -> i64 {
        self.0
    }

    /// The price of `units` that cost this amount each; `None` if it is too large.
    pub fn checked_mul(self, units: Quantity) -> Option<Self> {
        let cents = self.0.checked_mul(units.get().into())?;
        Self::from_cents(cents).ok()
    }

    /// The sum; `None` if it is too large.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::from_cents(self.0.checked_add(other.0)?).ok()
    }

    /// The difference; `None` if `other` is larger.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        Self::from_cents(self.0 - other.0).ok()
    }
}

/// For people: `12.99 EUR`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02} EUR", self.0 / 100, self.0 % 100)
    }
}

/// An amount of money.
// How `Money` is written in JSON.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[schema(as = Money)]
struct Amount {
    /// Cents.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64, example = 1299)]
    amount: i64,
    currency: Currency,
}

/// The currency of all amounts (ISO 4217).
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
enum Currency {
    #[serde(rename = "EUR")]
    Euro,
}

impl From<Money> for Amount {
    fn from(money: Money) -> Self {
        Self { amount: money.0, currency: Currency::Euro }
    }
}

impl TryFrom<Amount> for Money {
    type Error = InvalidValue;

    fn try_from(amount: Amount) -> Result<Self, InvalidValue> {
        Self::from_cents(amount.amount)
    }
}

impl utoipa::PartialSchema for Money {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        Amount::schema()
    }
}

impl ToSchema for Money {
    fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        Amount::schemas(schemas);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn money_is_cents_with_a_currency() {
        let money = Money::from_cents(1299).unwrap();
        assert_eq!(serde_json::to_value(money).unwrap(), json!({"amount": 1299, "currency": "EUR"}));
        assert_eq!(money.to_string(), "12.99 EUR");
        for wrong in [
            json!({"amount": -1, "currency": "EUR"}),
            json!({"amount": 12.99, "currency": "EUR"}),
            json!({"amount": 1299, "currency": "USD"}),
            json!({"amount": 1_u64 << 53, "currency": "EUR"}),
            json!({"amount": 1299}),
        ] {
            assert!(serde_json::from_value::<Money>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn arithmetic_is_exact_or_fails(one in 0..=Money::MAX_CENTS, other in 0..=Money::MAX_CENTS, units in 1_i64..=1000) {
            let (left, right) = (Money::from_cents(one).unwrap(), Money::from_cents(other).unwrap());
            let units = Quantity::try_from(units).unwrap();
            let exact = |cents: i128| i64::try_from(cents).ok().and_then(|cents| Money::from_cents(cents).ok());
            prop_assert_eq!(left.checked_add(right), exact(i128::from(one) + i128::from(other)));
            prop_assert_eq!(left.checked_sub(right), exact(i128::from(one) - i128::from(other)));
            prop_assert_eq!(left.checked_mul(units), exact(i128::from(one) * i128::from(units.get())));
        }
    }
}
