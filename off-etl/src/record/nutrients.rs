//! Nutrients in the formats of old and new records.

use crate::lenient::{Lenient, LenientObject};
use serde::Deserialize;

/// Energy in the format of most records.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Nutriments {
    /// Kilocalories in 100 g or 100 ml.
    #[serde(rename = "energy-kcal_100g")]
    pub(crate) kcal_100g: Lenient,
    /// Kilocalories in a serving.
    #[serde(rename = "energy-kcal_serving")]
    pub(crate) kcal_serving: Lenient,
    /// Kilojoules in 100 g or 100 ml.
    #[serde(rename = "energy-kj_100g")]
    pub(crate) kj_100g: Lenient,
    /// Kilojoules in a serving.
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
    /// In kilocalories.
    #[serde(rename = "energy-kcal")]
    pub(crate) kcal: LenientObject<AggregatedNutrient>,
    /// In kilojoules.
    #[serde(rename = "energy-kj")]
    pub(crate) kj: LenientObject<AggregatedNutrient>,
}

/// One value of an aggregated set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AggregatedNutrient {
    /// In the unit of its field.
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
