//! The amount in a pack, in grams or milliliters.

use crate::{
    correction::{Correction, Corrections, number, text},
    record::Record,
};

/// Larger amounts are implausible, in grams or milliliters.
const MAX_AMOUNT: f64 = 1e6;

/// Longer units are cut, in characters.
const MAX_UNIT_LENGTH: usize = 20;

/// Units of printed texts, each with its factor and base unit.
const UNITS: [(&str, f64, &str); 10] = [
    ("mg", 0.001, "g"),
    ("g", 1.0, "g"),
    ("gr", 1.0, "g"),
    ("kg", 1000.0, "g"),
    ("ml", 1.0, "ml"),
    ("cl", 10.0, "ml"),
    ("dl", 100.0, "ml"),
    ("l", 1000.0, "ml"),
    ("litre", 1000.0, "ml"),
    ("liter", 1000.0, "ml"),
];

/// The amount and its unit from the record's fields. `printed`, the text on the pack, completes missing fields and
/// overrides contradicting ones, because Open Food Facts derives the fields from it.
pub(super) fn amount(record: &Record, printed: &str, corrections: &mut Corrections) -> (Option<f64>, Option<String>) {
    let mut stated = number(&record.product_quantity, MAX_AMOUNT, corrections);
    // No pack is empty.
    if stated == Some(0.0) {
        stated = None;
        corrections.add(Correction::ImplausibleNumber);
    }
    let unit = || text(&record.product_quantity_unit, MAX_UNIT_LENGTH, &mut Corrections::default());
    match (stated, unit(), read(printed)) {
        (None, _, None) => (None, None),
        (None, _, Some((amount, unit))) => (Some(amount), Some(unit.to_owned())),
        (Some(stated), None, Some((amount, unit))) if is_same(stated, amount) => (Some(stated), Some(unit.to_owned())),
        (Some(stated), Some(stated_unit), Some((amount, unit)))
            if stated_unit.eq_ignore_ascii_case(unit) && !is_same(stated, amount) =>
        {
            corrections.add(Correction::OtherAmount);
            (Some(amount), Some(stated_unit))
        }
        (stated, unit, _) => (stated, unit),
    }
}

/// The amount in grams or milliliters; `None` if its unit is unknown. Without a unit it is in grams or milliliters already.
pub(super) fn in_base_unit(amount: f64, unit: Option<&str>) -> Option<f64> {
    let Some(unit) = unit else { return Some(amount) };
    let &(_, factor, _) = UNITS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(unit))?;
    Some(amount * factor)
}

/// The single amount in `printed`; `None` if there are several, or if a separator may stand for thousands.
fn read(printed: &str) -> Option<(f64, &'static str)> {
    let text = printed.trim().trim_end_matches(['e', '℮', '.', ' ']).to_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',')?;
    let (amount, unit) = (&text[..digits], text[digits..].trim());
    let (whole, fraction) = amount.split_once(['.', ',']).unwrap_or((amount, ""));
    // 1.000 g may be a gram or a kilogram, and the separators of 1,000.5 differ between countries.
    let is_ambiguous =
        fraction.contains(['.', ',']) || (fraction.len() == 3 && !whole.trim_start_matches('0').is_empty());
    if is_ambiguous {
        return None;
    }
    let &(_, factor, unit) = UNITS.iter().find(|(name, ..)| *name == unit)?;
    let amount = format!("{whole}.{fraction}0").parse::<f64>().ok()? * factor;
    (0.0 < amount && amount <= MAX_AMOUNT).then_some((amount, unit))
}

/// Whether two amounts differ by rounding only.
fn is_same(one: f64, other: f64) -> bool {
    (one - other).abs() <= 0.01 * one.max(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &str, printed: &str) -> (Option<f64>, Option<String>) {
        let record = Record::read(format!("{{{fields}}}").as_bytes()).unwrap();
        amount(&record, printed, &mut Corrections::default())
    }

    #[test]
    fn an_amount_is_read_from_the_printed_text_only_if_it_is_unambiguous() {
        for (printed, amount) in [
            ("500 g", Some((500.0, "g"))),
            ("500g", Some((500.0, "g"))),
            ("33 cl", Some((330.0, "ml"))),
            (".33 l", Some((330.0, "ml"))),
            ("0,5 L", Some((500.0, "ml"))),
            ("0.125 kg", Some((125.0, "g"))),
            ("1,5 kg e", Some((1500.0, "g"))),
            ("1.000 g", None),
            ("6 x 125 g", None),
            ("500", None),
            ("1 bar", None),
            ("0 g", None),
            ("500 g (2 x 250 g)", None),
            ("1.2.3 g", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(read(printed), amount, "{printed:?}");
        }
    }

    #[test]
    fn missing_and_contradicting_fields_are_read_from_the_printed_text() {
        let some = |amount: f64, unit: &str| (Some(amount), Some(unit.to_owned()));
        assert_eq!(of(r#""product_quantity": 0, "product_quantity_unit": "g""#, "1"), (None, None));
        assert_eq!(of(r#""product_quantity": 330"#, "33 cl"), some(330.0, "ml"));
        assert_eq!(of(r#""product_quantity": "33000", "product_quantity_unit": "ml""#, ".33 l"), some(330.0, "ml"));
        assert_eq!(of("", "500 g"), some(500.0, "g"));
        assert_eq!(of("", "6 x 125 g"), (None, None));
        assert_eq!(of(r#""product_quantity": 750, "product_quantity_unit": "g""#, "6 x 125 g"), some(750.0, "g"));
        assert_eq!(of(r#""product_quantity": 331, "product_quantity_unit": "ml""#, "33 cl"), some(331.0, "ml"));
        // With another unit, the text does not override the fields.
        assert_eq!(of(r#""product_quantity": 400, "product_quantity_unit": "g""#, "500 ml"), some(400.0, "g"));
        assert_eq!(of(r#""product_quantity": 400"#, "500 ml"), (Some(400.0), None));
    }
}
