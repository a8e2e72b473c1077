//! Prices in whole cents, from decimal text.

/// The price in hundredths, rounded half away from zero; `None` if the text is no number, or is negative or too large.
/// Decimal digits are used as they are: as a float, 1.005 would be a little less and round down.
pub(super) fn cents(text: &str) -> Option<i64> {
    // A number with an exponent has the digits of the float.
    decimal(text).or_else(|| decimal(&text.parse::<f64>().ok()?.to_string()))
}

/// The same for text without an exponent.
fn decimal(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits = format!("{whole}{fraction:0<3}");
    let (cents, rest) = digits.split_at(whole.len() + 2);
    let cents: i64 = cents.parse().ok()?;
    cents.checked_add(i64::from(rest.starts_with(|digit| digit >= '5')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_are_rounded_up_and_no_digit_is_lost() {
        for (text, expected) in [
            ("2.99", Some(299)),
            ("2.9", Some(290)),
            ("3", Some(300)),
            ("3.", Some(300)),
            (".5", Some(50)),
            ("0", Some(0)),
            ("0.004", Some(0)),
            ("0.005", Some(1)),
            ("1.005", Some(101)),
            ("1.0049999999999999999999", Some(100)),
            ("8.115", Some(812)),
            ("1.15e1", Some(1150)),
            ("1e-5", Some(0)),
            ("0000000000000000000002.50", Some(250)),
            ("90071992547409.93", Some(9_007_199_254_740_993)),
            ("99999999999999999999", None),
            ("1e30", None),
            ("-2.99", None),
            ("-1e1", None),
            ("2,99", None),
            ("1 000.00", None),
            ("1.2.3", None),
            ("NaN", None),
            ("inf", None),
            (".", None),
            ("", None),
            ("null", None),
        ] {
            assert_eq!(cents(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn cents_are_read_as_they_are_written(cents_written in 0..1_000_000_000_000_i64, more in "([0-4][0-9]{0,20})?") {
            let text = format!("{}.{:02}{more}", cents_written / 100, cents_written % 100);
            prop_assert_eq!(cents(&text), Some(cents_written));
        }

        #[test]
        fn no_text_causes_a_panic(text in "[-+.,eE0-9a é]{0,30}") {
            let _ = cents(&text);
        }
    }
}
