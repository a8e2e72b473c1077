//! A price as an export of Open Prices has it, and the price that it states.

use super::{
    PriceReject,
    cents::cents,
    currency::{EURO, currency},
};
use crate::{lenient::Lenient, product::barcode, reject::RejectReason};
use chrono::NaiveDate;
use off_events::Barcode;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::ops::RangeInclusive;

/// Plausible prices in euros: the range of list prices, in cents.
const EURO_CENTS: RangeInclusive<i64> = 1..=1_000_000;

/// Plausible prices in hundredths of any other currency. A euro is more than ten thousand units of some.
const OTHER_CENTS: RangeInclusive<i64> = 1..=100_000_000_000;

/// One price of an export. Its fields have the names that Open Prices uses.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct PriceRecord {
    pub(crate) product_code: Lenient,
    /// As written, because a float may be another number; empty if it is absent.
    #[serde(deserialize_with = "as_written")]
    pub(crate) price: String,
    pub(crate) currency: Lenient,
    pub(crate) date: Lenient,
    pub(crate) price_is_discounted: Lenient,
}

/// The digits of a number, or of a text that is one.
fn as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let written = Box::<RawValue>::deserialize(deserializer)?;
    Ok(written.get().trim_matches('"').trim().to_owned())
}

impl PriceRecord {
    /// Parses one line of an export. Fails if it is not a JSON object.
    pub(crate) fn read(line: &[u8]) -> Result<Self, RejectReason> {
        // Other fields may have invalid UTF-8.
        let text = String::from_utf8_lossy(line);
        let is_object = text.trim_start().starts_with('{');
        serde_json::from_str(&text).ok().filter(|_| is_object).ok_or(RejectReason::NotJson)
    }
}

/// A valid price of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Price {
    pub(crate) barcode: Barcode,
    /// The code of ISO 4217.
    pub(crate) currency: &'static str,
    /// In hundredths of the currency.
    pub(crate) cents: i64,
    pub(crate) date: NaiveDate,
    pub(crate) is_discounted: bool,
}

impl Price {
    /// The price that `record` states. Fails with the reason if it is not valid. No price is from after `last_date`.
    pub(super) fn from_record(record: &PriceRecord, last_date: NaiveDate) -> Result<Self, PriceReject> {
        let barcode = barcode(&record.product_code).ok_or(PriceReject::NoBarcode)?;
        let cents = cents(&record.price).ok_or(PriceReject::NoPrice)?;
        let currency = record.currency.text().and_then(|code| currency(&code));
        let plausible = if currency == Some(EURO) { EURO_CENTS } else { OTHER_CENTS };
        if !plausible.contains(&cents) {
            return Err(PriceReject::NoPrice);
        }
        let currency = currency.ok_or(PriceReject::NoCurrency)?;
        let date = date(&record.date).filter(|date| *date <= last_date).ok_or(PriceReject::NoDate)?;
        Ok(Self { barcode, currency, cents, date, is_discounted: record.price_is_discounted.is_yes() })
    }
}

/// The day at the beginning of a text such as `2026-01-31` or `2026-01-31T08:00:00Z`; never before 1970.
fn date(value: &Lenient) -> Option<NaiveDate> {
    let text = value.text()?;
    let date = NaiveDate::parse_from_str(text.trim().get(..10)?, "%Y-%m-%d").ok()?;
    (date >= NaiveDate::default()).then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: &str = r#""product_code": "2000000000015", "price": 2.99, "currency": "EUR", "date": "2026-01-31""#;

    /// The price of a valid record without one of its fields, with these fields in its place.
    fn price(without: &str, fields: &str) -> Result<Price, PriceReject> {
        let rest: Vec<&str> = VALID.split(", ").filter(|field| !field.contains(&format!("\"{without}\""))).collect();
        let line = format!("{{{}{}{fields}}}", rest.join(", "), if fields.is_empty() { "" } else { ", " });
        let record = PriceRecord::read(line.as_bytes()).unwrap();
        Price::from_record(&record, NaiveDate::from_ymd_opt(2026, 2, 1).unwrap())
    }

    #[test]
    fn a_price_is_read_from_its_fields() {
        let expected = Price {
            barcode: "2000000000015".parse().unwrap(),
            currency: "EUR",
            cents: 299,
            date: NaiveDate::from_ymd_opt(2026, 1, 31).unwrap(),
            is_discounted: false,
        };
        for (without, fields) in [
            ("", ""),
            ("", r#""price_is_discounted": null"#),
            ("", r#""price_is_discounted": false, "owner": "a\ud83d", "proof": {"id": 1}"#),
            ("product_code", r#""product_code": 2000000000015"#),
            ("price", r#""price": "2.990""#),
            ("price", r#""price":2.9949999999999999999999"#),
            ("currency", r#""currency": "eur""#),
            ("date", r#""date": "2026-01-31T08:00:00Z""#),
        ] {
            assert_eq!(price(without, fields), Ok(expected.clone()), "{fields}");
        }
        assert_eq!(price("", r#""price_is_discounted": true"#), Ok(Price { is_discounted: true, ..expected }));
    }

    #[test]
    fn every_broken_rule_has_its_reject_reason() {
        for (without, fields, reason) in [
            ("product_code", "", PriceReject::NoBarcode),
            ("product_code", r#""product_code": "", "price_is_discounted": true"#, PriceReject::NoBarcode),
            ("product_code", r#""product_code": "tomato""#, PriceReject::NoBarcode),
            ("price", "", PriceReject::NoPrice),
            ("price", r#""price": null"#, PriceReject::NoPrice),
            ("price", r#""price": 0"#, PriceReject::NoPrice),
            ("price", r#""price": -2.99"#, PriceReject::NoPrice),
            ("price", r#""price": 10000.01"#, PriceReject::NoPrice),
            ("price", r#""price": {"EUR": 1}"#, PriceReject::NoPrice),
            ("currency", "", PriceReject::NoCurrency),
            ("currency", r#""currency": "EURO""#, PriceReject::NoCurrency),
            ("date", "", PriceReject::NoDate),
            ("date", r#""date": "2026-02-02""#, PriceReject::NoDate),
            ("date", r#""date": "1969-12-31""#, PriceReject::NoDate),
            ("date", r#""date": "31.01.2026""#, PriceReject::NoDate),
            ("date", r#""date": 20260131"#, PriceReject::NoDate),
        ] {
            assert_eq!(price(without, fields), Err(reason), "{fields}");
        }
    }

    #[test]
    fn a_plausible_price_depends_on_the_currency() {
        let line = |price: &str| {
            let text = VALID.replace("EUR", "VND").replace("2.99", price);
            let record = PriceRecord::read(format!("{{{text}}}").as_bytes()).unwrap();
            Price::from_record(&record, NaiveDate::MAX).map(|price| price.cents)
        };
        assert_eq!(line("85000"), Ok(8_500_000));
        assert_eq!(line("1000000000.01"), Err(PriceReject::NoPrice));
    }

    #[test]
    fn a_line_that_is_no_object_is_not_read() {
        for line in
            ["not json", "[]", "\"text\"", "null", "{\"price\": 1", "[\"1\", 2.99, \"EUR\", \"2026-01-31\", true]"]
        {
            assert_eq!(PriceRecord::read(line.as_bytes()), Err(RejectReason::NotJson), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_causes_a_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PriceRecord::read(&line);
        }

        #[test]
        fn no_value_causes_a_panic(value in "\\PC{0,20}") {
            let value = serde_json::to_string(&value).unwrap();
            for field in ["product_code", "price", "currency", "date", "price_is_discounted"] {
                let _ = price(field, &format!("\"{field}\": {value}"));
            }
        }
    }
}
