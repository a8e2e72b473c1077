//! The energy of 100 g or ml, and of a serving, in kilocalories.

use crate::{
    correction::{Correction, Corrections, number},
    lenient::Lenient,
    record::{AggregatedNutrient, Record},
};

/// Kilojoules in a kilocalorie (Regulation (EU) No 1169/2011, annex XIV rounds this to 4.2).
const KJ_PER_KCAL: f64 = 4.184;

/// Relative tolerance of the ratio on a label, where both numbers are rounded.
const RATIO_TOLERANCE: f64 = 0.1;

/// Larger energies of 100 g are implausible, in kilocalories: pure fat has 900.
const MAX_KCAL_100G: f64 = 1000.0;

/// Larger energies of a serving are implausible, in kilocalories.
const MAX_KCAL_SERVING: f64 = 10_000.0;

/// Kilocalories of 100 g or ml, and of a serving: by the newer schema if the record has it, else by the older one.
/// Ignores values that a program estimated, and values of the prepared food, which is mainly water.
pub(super) fn energy(record: &Record, corrections: &mut Corrections) -> (Option<f64>, Option<f64>) {
    let (set, nutriments) = (&record.nutrition.aggregated_set.0, &record.nutriments);
    let is_prepared = set.preparation.text().as_deref() == Some("prepared");
    let stated = |nutrient: &AggregatedNutrient| {
        let is_estimated = nutrient.source.text().as_deref() == Some("estimate");
        if is_estimated || is_prepared { Lenient::Nothing } else { nutrient.value.clone() }
    };
    let is_serving = set.per.text().as_deref() == Some("serving");
    let max = if is_serving { MAX_KCAL_SERVING } else { MAX_KCAL_100G };
    let newer = kcal(&stated(&set.nutrients.0.kcal.0), &stated(&set.nutrients.0.kj.0), max, corrections);
    let of_100g = newer.filter(|_| !is_serving);
    let of_serving = newer.filter(|_| is_serving);
    (
        of_100g.or_else(|| kcal(&nutriments.kcal_100g, &nutriments.kj_100g, MAX_KCAL_100G, corrections)),
        of_serving.or_else(|| kcal(&nutriments.kcal_serving, &nutriments.kj_serving, MAX_KCAL_SERVING, corrections)),
    )
}

/// Kilocalories as stated, else computed from kilojoules; `None` if the number is implausible. The same energy has more
/// kilojoules than kilocalories. If not, both were exchanged if their ratio fits, else neither is used. Many records
/// have 0 kJ for an absent value.
fn kcal(kcal: &Lenient, kj: &Lenient, max: f64, corrections: &mut Corrections) -> Option<f64> {
    if let (Some(kcal), Some(kj)) = (kcal.number(), kj.number())
        && kj > 0.0
        && kj <= kcal
    {
        corrections.add(Correction::SwappedEnergy);
        let is_exchanged = (kcal / kj / KJ_PER_KCAL - 1.0).abs() < RATIO_TOLERANCE;
        return Some(kj).filter(|kcal| is_exchanged && *kcal <= max);
    }
    number(kcal, max, corrections).or_else(|| number(kj, max * KJ_PER_KCAL, corrections).map(|kj| kj / KJ_PER_KCAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &str) -> (Option<f64>, Vec<Correction>) {
        let record = Record::read(format!("{{{fields}}}").as_bytes()).unwrap();
        let mut corrections = Corrections::default();
        let (kcal, _) = energy(&record, &mut corrections);
        (kcal.map(f64::round), corrections.iter().collect())
    }

    fn nutriments(kcal: f64, kj: f64) -> String {
        format!(r#""nutriments": {{"energy-kcal_100g": {kcal}, "energy-kj_100g": {kj}}}"#)
    }

    #[test]
    fn kilocalories_above_kilojoules_are_exchanged_or_left_out() {
        for (kcal, kj, right) in [
            (353.0, 1475.0, Some(353.0)),
            (1475.0, 353.0, Some(353.0)),
            (837.0, 200.0, Some(200.0)),
            (3700.0, 900.0, Some(900.0)),
            (176.0, 176.0, None),
            (300.0, 200.0, None),
        ] {
            let (found, corrections) = of(&nutriments(kcal, kj));
            assert_eq!(found, right, "{kcal} kcal, {kj} kJ");
            assert_eq!(!corrections.is_empty(), kcal >= kj, "{kcal} kcal, {kj} kJ");
        }
        assert_eq!(of(&nutriments(200.0, 0.0)), (Some(200.0), vec![]));
        assert_eq!(of(&nutriments(0.0, 0.0)), (Some(0.0), vec![]));
        // An implausible value is not taken for an exchanged one.
        assert_eq!(of(&nutriments(1e25, 200.0)).0, None);
        assert_eq!(of(&nutriments(200.0, -1.0)).0, Some(200.0));
    }

    #[test]
    fn energy_is_read_from_all_fields_and_implausible_values_are_ignored() {
        let kcal = |fields: &str| of(fields).0;
        assert_eq!(kcal(r#""nutriments": {"energy-kj_100g": 836.8}"#), Some(200.0));
        assert_eq!(kcal(r#""nutriments": {"energy-kcal_100g": 1e25}"#), None);
        assert_eq!(kcal(r#""nutriments": {"energy-kcal_100g": -5}"#), None);
        let aggregated = |fields: &str| {
            format!(
                r#""nutrition": {{"aggregated_set": {{"nutrients": {{"energy-kcal": {{"value": 348, "source": "packaging"}}}}{fields}}}}}"#
            )
        };
        assert_eq!(kcal(&aggregated("")), Some(348.0));
        assert_eq!(kcal(&aggregated(r#", "preparation": "as_sold""#)), Some(348.0));
        assert_eq!(kcal(&aggregated("").replace("packaging", "estimate")), None);
        let of_serving =
            r#""nutrition": {"aggregated_set": {"per": "serving", "nutrients": {"energy-kcal": {"value": 100}}}}"#;
        let record = Record::read(format!("{{{of_serving}}}").as_bytes()).unwrap();
        assert_eq!(energy(&record, &mut Corrections::default()), (None, Some(100.0)));
    }

    #[test]
    fn energy_of_the_prepared_food_is_ignored_in_both_schemas() {
        let newer = r#""nutrition": {"aggregated_set": {"preparation": "prepared", "nutrients": {"energy-kcal": {"value": 38}}}}"#;
        assert_eq!(of(newer).0, None);
        assert_eq!(of(r#""nutriments": {"energy-kcal_prepared_100g": 38}"#).0, None);
    }
}
