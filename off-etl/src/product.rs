//! Turns a record into a product that keeps all rules of the catalog, or into a reject reason.

mod amount;
mod energy;
mod photo;

use crate::{
    correction::{Correction, Corrections, tag, text, whole},
    lenient::Lenient,
    profile::Profile,
    record::Record,
    reject::Reject,
};
use amount::amount;
use chrono::{DateTime, Utc};
use energy::energy;
use off_events::Barcode;
use photo::image_url;
use serde::Serialize;
use std::{collections::BTreeSet, ops::RangeInclusive};

/// A product of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Product {
    pub barcode: Barcode,
    pub name: String,
    /// As printed on the pack, such as `500 g`.
    pub quantity: String,
    /// Amount in a pack, in `product_quantity_unit`.
    pub product_quantity: Option<f64>,
    pub product_quantity_unit: Option<String>,
    pub image_url: Option<String>,
    pub kcal_100g: Option<f64>,
    pub kcal_serving: Option<f64>,
    /// 1 to 4.
    pub nova_group: i16,
    /// -18 to 55.
    pub nutriscore_score: Option<i16>,
    /// `a` to `e`.
    pub nutriscore_grade: String,
    /// `low`, `moderate` or `high`.
    pub fat: Option<String>,
    pub saturated_fat: Option<String>,
    pub sugars: Option<String>,
    pub salt: Option<String>,
    /// Tags without their language, without duplicates.
    pub brands: Vec<String>,
    /// Tags with their language, without duplicates.
    pub categories: Vec<String>,
    /// No longer sold.
    pub obsolete: bool,
    /// When somebody last changed the record; 1970 if unknown.
    pub last_modified: DateTime<Utc>,
    /// When Open Food Facts last recomputed a value of the record, such as its Nutri-Score; never before
    /// `last_modified`.
    pub last_updated: DateTime<Utc>,
}

/// Longer texts are cut, in characters. Real texts are far shorter, spam is not.
const MAX_NAME_LENGTH: usize = 300;
const MAX_TAG_LENGTH: usize = 150;
const MAX_UNIT_LENGTH: usize = 20;
/// Brands or categories of a product; more are dropped.
const MAX_TAGS: usize = 100;

/// The first second of the year 2100, in UNIX time.
const MAX_UNIX_TIME: i64 = 4_102_444_800;

/// Range of the Nutri-Score of 2023. Negative points of foods: energy 10, sugars 15, saturated fat 10, salt 20.
/// Positive points of drinks: protein 7, fiber 5, fruit 6 (`nutriscore.2023.data.components.*.points_max` in the
/// documents of Open Food Facts).
const NUTRISCORES: RangeInclusive<i64> = -18..=55;

impl Product {
    /// The product that `record` describes, and the corrections of the record. Fails with the reason if it cannot
    /// become a product.
    pub fn from_record(record: &Record, profile: Profile) -> Result<(Self, Corrections), Reject> {
        let mut corrections = record.corrections;
        let barcode: Barcode = code(record).trim().parse().map_err(|_| Reject::NoBarcode)?;
        let name = name(record, &mut corrections).ok_or(Reject::NoName)?;
        let quantity = text(&record.quantity, MAX_TAG_LENGTH, &mut corrections).ok_or(Reject::NoQuantity)?;
        let states = record.states_tags.texts();
        if !profile.tags().iter().all(|tag| states.iter().any(|state| state == tag)) {
            return Err(Reject::MissingState);
        }
        let image_url = image_url(record, &barcode).ok_or(Reject::NoPhoto)?;
        let nova_group = match whole(&record.nova_group, &mut corrections) {
            Some(group @ 1..=4) => i16::try_from(group).map_err(|_| Reject::NovaGroup)?,
            _ => return Err(Reject::NovaGroup),
        };
        let nutriscore_score = match whole(&record.nutriscore_score, &mut corrections) {
            None => {
                if !record.nutriscore_score.is_empty() {
                    corrections.add(Correction::AbsurdNumber);
                }
                None
            }
            Some(score) if NUTRISCORES.contains(&score) => i16::try_from(score).ok(),
            Some(_) => return Err(Reject::NutriscoreScore),
        };
        let grade = record.nutriscore_grade.text().unwrap_or_default().trim().to_ascii_lowercase();
        if !matches!(grade.as_str(), "a" | "b" | "c" | "d" | "e") {
            return Err(Reject::NutriscoreGrade);
        }
        let brands = if record.brands_tags == Lenient::Nothing { &record.brands } else { &record.brands_tags };
        let (product_quantity, product_quantity_unit) = amount(record, &quantity, &mut corrections);
        let (kcal_100g, kcal_serving) = energy(record, &mut corrections);
        let [fat, saturated_fat, sugars, salt] = levels(record);
        let last_modified = last_modified(record, &mut corrections);
        let product = Self {
            barcode,
            name,
            quantity,
            product_quantity,
            product_quantity_unit,
            image_url: Some(image_url),
            kcal_100g,
            kcal_serving,
            nova_group,
            nutriscore_score,
            nutriscore_grade: grade,
            fat,
            saturated_fat,
            sugars,
            salt,
            brands: tags(brands, without_language, &mut corrections),
            categories: tags(&record.categories_tags, |tag| tag, &mut corrections),
            obsolete: record.obsolete.is_yes(),
            last_modified,
            last_updated: last_updated(record, last_modified),
        };
        Ok((product, corrections))
    }

    /// Orders two records of a product that changed and were recomputed in the same seconds: the greater fingerprint
    /// wins, whichever comes first. It is the same on every machine. Its highest byte counts the optional fields that
    /// are present, so the more complete record wins: not every export has all fields.
    pub(crate) fn fingerprint(&self) -> i64 {
        let known = [
            self.kcal_100g.is_some(),
            self.kcal_serving.is_some(),
            self.product_quantity.is_some(),
            self.product_quantity_unit.is_some(),
            self.nutriscore_score.is_some(),
            self.fat.is_some(),
            self.saturated_fat.is_some(),
            self.sugars.is_some(),
            self.salt.is_some(),
            !self.categories.is_empty(),
            !self.brands.is_empty(),
        ];
        let known = known.into_iter().filter(|is_known| *is_known).count() as u64;
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        (known << 56 | xxhash_rust::xxh3::xxh3_64(&bytes) >> 8).cast_signed()
    }
}

/// A record that marks a product as no longer sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withdrawal {
    pub(crate) barcode: Barcode,
    pub(crate) last_modified: DateTime<Utc>,
    pub(crate) last_updated: DateTime<Utc>,
}

impl Withdrawal {
    /// The withdrawal by `record`, which may itself be rejected. `None` if it is not marked obsolete, or has no valid
    /// barcode or time.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let barcode = code(record).trim().parse().ok()?;
        let last_modified = changed(record)?;
        let last_updated = last_updated(record, last_modified);
        record.obsolete.is_yes().then_some(Self { barcode, last_modified, last_updated })
    }
}

/// The barcode as written; empty for a number that is too large to be exact.
fn code(record: &Record) -> String {
    match &record.code {
        Lenient::Number(_) => record.code.whole().map(|code| code.to_string()),
        code => code.text(),
    }
    .unwrap_or_default()
}

/// The product name, else the name in the product's language, else the generic name, else the name in English, else in
/// any language.
fn name(record: &Record, corrections: &mut Corrections) -> Option<String> {
    let own_language = record.lang.text().and_then(|lang| record.names.get(&lang));
    let any_language = record.names.get("en").into_iter().chain(record.names.values());
    std::iter::once(&record.product_name)
        .chain(own_language)
        .chain([&record.generic_name])
        .chain(any_language)
        .find_map(|name| text(name, MAX_NAME_LENGTH, corrections))
}

/// Tags without duplicates, in their order.
fn tags(value: &Lenient, name: fn(&str) -> &str, corrections: &mut Corrections) -> Vec<String> {
    let mut seen = BTreeSet::new();
    value
        .texts()
        .into_iter()
        .map(|value| name(&tag(&value, MAX_TAG_LENGTH, corrections)).to_owned())
        .filter(|tag| !tag.is_empty() && seen.insert(tag.clone()))
        .take(MAX_TAGS)
        .collect()
}

/// `xx:ferrero` and `ferrero` are one brand.
fn without_language(tag: &str) -> &str {
    match tag.split_once(':') {
        Some((language, name)) if language.len() == 2 && language.bytes().all(|b| b.is_ascii_lowercase()) => name,
        _ => tag,
    }
}

/// The levels of fat, saturated fat, sugars and salt, from the record's levels or else from its tags.
fn levels(record: &Record) -> [Option<String>; 4] {
    let levels = &record.nutrient_levels;
    let stated = [&levels.fat, &levels.saturated_fat, &levels.sugars, &levels.salt].map(level);
    if stated.iter().any(Option::is_some) || record.nutrient_levels_tags == Lenient::Nothing {
        return stated;
    }
    let tags = record.nutrient_levels_tags.texts();
    ["fat", "saturated-fat", "sugars", "salt"].map(|nutrient| {
        let prefix = format!("en:{nutrient}-in-");
        tags.iter()
            .find_map(|tag| level(&Lenient::Text(tag.strip_prefix(&prefix)?.strip_suffix("-quantity")?.to_owned())))
    })
}

fn level(value: &Lenient) -> Option<String> {
    value.text().filter(|level| matches!(level.as_str(), "low" | "moderate" | "high"))
}

/// When a record was last changed, if it states a plausible time.
pub(crate) fn changed(record: &Record) -> Option<DateTime<Utc>> {
    time(&record.last_modified_t)
}

/// When a record was last recomputed; never before it was changed.
fn last_updated(record: &Record, last_modified: DateTime<Utc>) -> DateTime<Utc> {
    last_modified.max(time(&record.last_updated_t).unwrap_or_default())
}

fn time(value: &Lenient) -> Option<DateTime<Utc>> {
    // Times in milliseconds and other implausible times are ignored.
    let seconds = value.whole().filter(|seconds| (0..=MAX_UNIX_TIME).contains(seconds))?;
    DateTime::from_timestamp(seconds, 0)
}

fn last_modified(record: &Record, corrections: &mut Corrections) -> DateTime<Utc> {
    let changed = changed(record);
    match (changed, &record.last_modified_t) {
        (None, _) => corrections.add(Correction::NoTime),
        (Some(_), Lenient::Text(_)) => corrections.add(Correction::OtherType),
        _ => {}
    }
    changed.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A valid record with these fields added; of a repeated field the last one counts.
    fn record(fields: &str) -> Record {
        let valid = r#""code": "2000000000015", "product_name": "Red lentils", "quantity": "500 g", "nova_group": 1,
            "nutriscore_grade": "a", "images": {"front_en": {"rev": "3"}}, "states_tags": ["en:product-name-completed",
            "en:brands-completed", "en:quantity-completed", "en:front-photo-selected", "en:nutrition-facts-completed"]"#;
        let comma = if fields.is_empty() { "" } else { "," };
        Record::read(format!("{{{valid}{comma}{fields}}}").as_bytes()).unwrap()
    }

    fn product(fields: &str) -> Result<Product, Reject> {
        Product::from_record(&record(fields), Profile::Default).map(|(product, _)| product)
    }

    fn corrections(fields: &str) -> Vec<Correction> {
        let with_time = format!(r#""last_modified_t": 1700000000{}{fields}"#, if fields.is_empty() { "" } else { "," });
        Product::from_record(&record(&with_time), Profile::Default).unwrap().1.iter().collect()
    }

    #[test]
    fn corrections_are_recorded() {
        assert_eq!(corrections(""), []);
        for (fields, correction) in [
            (r#""product_name": "a \ud83d b""#, Correction::HalfSurrogate),
            (r#""product_name": "a\u0000b""#, Correction::ControlCharacters),
            (r#""product_name": "a &amp; b""#, Correction::HtmlEntities),
            (r#""nova_group": "4""#, Correction::OtherType),
            (r#""quantity": 500"#, Correction::OtherType),
            (r#""nutriments": {"energy-kcal_100g": 1e25}"#, Correction::AbsurdNumber),
            (r#""product_quantity": -1"#, Correction::AbsurdNumber),
            (r#""product_quantity": "NaN""#, Correction::AbsurdNumber),
            (r#""product_quantity": "0,5""#, Correction::OtherType),
            (r#""nutriscore_score": 1.5"#, Correction::AbsurdNumber),
            (r#""last_modified_t": "soon""#, Correction::NoTime),
            (r#""nutriments": {"energy-kcal_100g": 837, "energy-kj_100g": 200}"#, Correction::SwappedEnergy),
            (r#""product_quantity": 33000, "product_quantity_unit": "g""#, Correction::OtherAmount),
            (r#""product_name": "a\u202eb""#, Correction::ControlCharacters),
        ] {
            assert_eq!(corrections(fields), [correction], "{fields}");
        }
        assert_eq!(corrections(&format!(r#""product_name": "{}""#, "x".repeat(301))), [Correction::LongText]);
    }

    #[test]
    fn levels_are_read_from_tags_if_there_is_nothing_else() {
        let tags = r#""nutrient_levels_tags": ["en:fat-in-low-quantity", "en:saturated-fat-in-high-quantity"]"#;
        let product = product(tags).unwrap();
        assert_eq!((product.fat.as_deref(), product.saturated_fat.as_deref()), (Some("low"), Some("high")));
        assert_eq!((product.sugars, product.salt), (None, None));
    }

    #[test]
    fn of_two_records_of_the_same_second_the_more_complete_one_wins() {
        let less = product(r#""nutriscore_score": 3"#).unwrap();
        for quantity in 1..50 {
            let more = format!(
                r#""nutriscore_score": 3, "quantity": "{quantity} g", "nutriments": {{"energy-kcal_100g": 345}}"#
            );
            assert!(product(&more).unwrap().fingerprint() > less.fingerprint());
        }
    }

    #[test]
    fn a_grade_may_have_blanks_around_it_and_any_case() {
        assert_eq!(product(r#""nutriscore_grade": " E ""#).unwrap().nutriscore_grade, "e");
    }

    #[test]
    fn last_updated_is_never_before_last_modified() {
        let updated = |time: &str| {
            let times = format!(r#""last_modified_t": 1700000000, "last_updated_t": {time}"#);
            product(&times).unwrap().last_updated.timestamp()
        };
        assert_eq!(updated("1700000001"), 1_700_000_001);
        for time in ["1600000000", "\"soon\"", "1700000000000", "null"] {
            assert_eq!(updated(time), 1_700_000_000, "{time}");
        }
    }

    #[test]
    fn obsolete_products_are_marked() {
        for (field, obsolete) in [("\"on\"", true), ("1", true), ("true", true), ("\"\"", false), ("false", false)] {
            assert_eq!(product(&format!("\"obsolete\": {field}")).unwrap().obsolete, obsolete, "{field}");
        }
    }

    #[test]
    fn every_broken_rule_has_its_reject_reason() {
        for (fields, reason) in [
            (r#""code": "2-KG-PACK""#, Reject::NoBarcode),
            (r#""code": "0000""#, Reject::NoBarcode),
            // Too many digits for a number: rounded, it would be the barcode of another product.
            (r#""code": 123456789012345678901234"#, Reject::NoBarcode),
            (r#""product_name": " \u0000 ""#, Reject::NoName),
            (r#""quantity": """#, Reject::NoQuantity),
            (r#""states_tags": []"#, Reject::MissingState),
            (r#""images": {}"#, Reject::NoPhoto),
            (r#""nova_group": 5"#, Reject::NovaGroup),
            (r#""nova_group": 1.5"#, Reject::NovaGroup),
            (r#""nutriscore_score": 56"#, Reject::NutriscoreScore),
            (r#""nutriscore_score": "-19""#, Reject::NutriscoreScore),
            (r#""nutriscore_grade": "unknown""#, Reject::NutriscoreGrade),
        ] {
            assert_eq!(product(fields).unwrap_err(), reason, "{fields}");
        }
        assert!(product("").is_ok());
    }

    #[test]
    fn profiles_ask_for_different_tags() {
        assert_eq!(Product::from_record(&record(""), Profile::Strict), Err(Reject::MissingState));
        assert!(Product::from_record(&record(r#""states_tags": null"#), Profile::All).is_ok());
    }

    #[test]
    fn values_of_unusual_types_are_read() {
        let product = product(
            r#""code": 2000000000015, "nova_group": "4", "nutriscore_score": "-3", "nutriscore_grade": "B",
               "product_quantity": "500", "last_modified_t": "1700000000", "nutriments": {"energy-kcal_100g": "357"}"#,
        )
        .unwrap();
        assert_eq!(product.barcode.as_str(), "2000000000015");
        assert_eq!((product.nova_group, product.nutriscore_score), (4, Some(-3)));
        assert_eq!((product.product_quantity, product.kcal_100g), (Some(500.0), Some(357.0)));
        assert_eq!(product.last_modified.timestamp(), 1_700_000_000);
    }

    #[test]
    fn an_implausible_time_is_ignored() {
        for time in ["1700000000000", "-5", "1e300", "\"soon\""] {
            assert_eq!(product(&format!("\"last_modified_t\": {time}")).unwrap().last_modified, DateTime::UNIX_EPOCH);
        }
    }

    #[test]
    fn names_and_brands_are_cleaned() {
        let product = product(
            r#""product_name": "  Silk &quot;leche&quot;\t de\u0000coco ",
               "brands_tags": ["xx:silk", null, "", "silk", "en:So Good", "a:b"]"#,
        )
        .unwrap();
        assert_eq!(product.name, "Silk \"leche\" de coco");
        assert_eq!(product.brands, ["silk", "So Good", "a:b"]);
        let name = |fields: &str| super::tests::product(fields).map(|product| product.name);
        let french = r#""product_name": "", "generic_name": "Légumes secs", "lang": "fr", "product_name_de": "Linsen", "product_name_fr": "Lentilles""#;
        assert_eq!(name(french).unwrap(), "Lentilles");
        assert_eq!(name(&french.replace("_fr", "_es")).unwrap(), "Légumes secs");
        assert_eq!(name(r#""product_name": "\u200b\u2060 \u00ad""#), Err(Reject::NoName));
        assert_eq!(name(r#""product_name": "\u202eabc\u200f""#).unwrap(), "abc");
        // Joiners, which Persian and emoji need, stay.
        assert_eq!(name(r#""product_name": "a\u200cb\u200dc""#).unwrap(), "a\u{200c}b\u{200d}c");
    }

    proptest! {
        #[test]
        fn a_product_keeps_the_catalogs_rules(
            name in "\\PC{0,400}", quantity in "\\PC{0,20}", nova in any::<f64>(), score in -100i64..100, kcal in any::<f64>()
        ) {
            let fields = format!(
                r#""product_name": {}, "quantity": {}, "nova_group": {nova}, "nutriscore_score": {score},
                   "nutriments": {{"energy-kcal_100g": {kcal}}}"#,
                serde_json::to_string(&name).unwrap(), serde_json::to_string(&quantity).unwrap());
            if nova.is_finite() && kcal.is_finite() && let Ok(product) = product(&fields) {
                prop_assert!((1..=300).contains(&product.name.chars().count()) && !product.name.contains('\0'));
                prop_assert!((1..=4).contains(&product.nova_group));
                prop_assert!(product.nutriscore_score.is_none_or(|score| NUTRISCORES.contains(&i64::from(score))));
                prop_assert!(product.kcal_100g.is_none_or(|kcal| (0.0..=1000.0).contains(&kcal)));
            }
        }
    }
}
