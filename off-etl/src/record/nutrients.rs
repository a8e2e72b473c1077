//! Nutrients in the formats of old and new records.

use crate::lenient::{Lenient, LenientObject};
use serde::Deserialize;

/// Energy in the format of most records.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Nutriments {
    #[serde(rename = "energy-kcal_100g")]
    pub(crate) kcal_100g: Lenient,
    #[serde(rename = "energy-kcal_serving")]
    pub(crate) kcal_serving: Lenient,
    #[serde(rename = "energy-kj_100g")]
    pub(crate) kj_100g: Lenient,
    #[serde(rename = "energy-kj_serving")]
    pub(crate) kj_serving: Lenient,
}

/// Energy in the format of schema 1003 and later.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Nutrition {
    pub(crate) aggregated_set: LenientObject<AggregatedSet>,
}

/// The nutrients of one preparation, for one amount.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AggregatedSet {
    /// `100g`, `100ml`, or `serving`.
    pub(crate) per: Lenient,
    /// `as_sold` or `prepared`.
    pub(crate) preparation: Lenient,
    pub(crate) nutrients: LenientObject<AggregatedNutrients>,
}

/// The energy of an aggregated set, in both units.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AggregatedNutrients {
    #[serde(rename = "energy-kcal")]
    pub(crate) kcal: LenientObject<AggregatedNutrient>,
    #[serde(rename = "energy-kj")]
    pub(crate) kj: LenientObject<AggregatedNutrient>,
}

/// One value of an aggregated set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AggregatedNutrient {
    pub(crate) value: Lenient,
    /// Who stated it: `packaging`, `estimate` and others.
    pub(crate) source: Lenient,
}

/// The levels of nutrients: `low`, `moderate` or `high`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NutrientLevels {
    pub(crate) fat: Lenient,
    #[serde(rename = "saturated-fat")]
    pub(crate) saturated_fat: Lenient,
    pub(crate) sugars: Lenient,
    pub(crate) salt: Lenient,
}
