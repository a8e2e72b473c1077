//! Amounts as people write them.

use off_events::Money;

/// An amount in euros, like `25`, `12.5` or `12,50`.
pub(super) fn parse(text: &str) -> Option<Money> {
    let text = text.trim().replace(',', ".");
    let (euros, cents) = text.split_once('.').unwrap_or((&text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if euros.is_empty() || !is_number(euros) || !is_number(cents) || cents.len() > 2 {
        return None;
    }
    let cents: i64 = format!("{cents:0<2}").parse().ok()?;
    let amount = euros.parse::<i64>().ok()?.checked_mul(100)?.checked_add(cents)?;
    Money::from_cents(amount).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_amount_has_at_most_two_decimals() {
        let cents = |text| parse(text).map(Money::cents);
        for (text, expected) in
            [("25", 2500), (" 12.5 ", 1250), ("12,50", 1250), ("0.01", 1), ("7.", 700), ("007", 700)]
        {
            assert_eq!(cents(text), Some(expected), "{text}");
        }
        for wrong in ["", ".5", "-1", "1.234", "1.2.3", "1 000", "1e3", "ten", "99999999999999999999"] {
            assert_eq!(cents(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn each_amount_is_read_as_it_is_written(cents in 0i64..1_000_000_000) {
            let text = format!("{}.{:02}", cents / 100, cents % 100);
            prop_assert_eq!(parse(&text).map(Money::cents), Some(cents));
        }
    }
}
