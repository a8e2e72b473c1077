//! NOVA group and Nutri-Score.

use crate::{
    correction::{Correction, Corrections, whole},
    record::Record,
    reject::RejectReason,
};
use std::ops::RangeInclusive;

/// Range of the Nutri-Score of 2023. Negative points of foods: energy 10, sugars 15, saturated fat 10, salt 20.
/// Positive points of drinks: protein 7, fiber 5, fruit 6 (`nutriscore.2023.data.components.*.points_max` in the
/// documents of Open Food Facts).
pub(super) const NUTRISCORES: RangeInclusive<i64> = -18..=55;

/// The NOVA group, from 1 to 4.
pub(super) fn nova_group(record: &Record, corrections: &mut Corrections) -> Result<i16, RejectReason> {
    match whole(&record.nova_group, corrections) {
        Some(group @ 1..=4) => i16::try_from(group).map_err(|_| RejectReason::NovaGroup),
        _ => Err(RejectReason::NovaGroup),
    }
}

/// The Nutri-Score; `None` if it is absent or not a whole number.
pub(super) fn nutriscore_score(record: &Record, corrections: &mut Corrections) -> Result<Option<i16>, RejectReason> {
    match whole(&record.nutriscore_score, corrections) {
        None => {
            if !record.nutriscore_score.is_empty() {
                corrections.add(Correction::ImplausibleNumber);
            }
            Ok(None)
        }
        Some(score) if NUTRISCORES.contains(&score) => Ok(i16::try_from(score).ok()),
        Some(_) => Err(RejectReason::NutriscoreScore),
    }
}

/// The grade of the Nutri-Score, from `a` to `e`.
pub(super) fn nutriscore_grade(record: &Record) -> Result<String, RejectReason> {
    let grade = record.nutriscore_grade.text().unwrap_or_default().trim().to_ascii_lowercase();
    if matches!(grade.as_str(), "a" | "b" | "c" | "d" | "e") { Ok(grade) } else { Err(RejectReason::NutriscoreGrade) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grade_may_have_blanks_around_it_and_any_case() {
        let record = Record::read(br#"{"nutriscore_grade": " E "}"#).unwrap();
        assert_eq!(nutriscore_grade(&record).as_deref(), Ok("e"));
    }
}
