//! Turns a record into a product that meets all rules of the catalog, or into the reason why it is rejected.

mod amount;
mod barcode;
mod energy;
mod levels;
mod name;
mod photo;
mod price;
mod scores;
mod tags;
mod times;
mod withdrawal;

pub(crate) use barcode::barcode;
pub(crate) use price::invented_price;
pub(crate) use times::changed;
pub(crate) use withdrawal::Withdrawal;

use crate::{
    correction::{Corrections, text},
    profile::Profile,
    record::Record,
    reject::RejectReason,
};
use amount::amount;
use chrono::{DateTime, Utc};
use energy::energy;
use levels::levels;
use name::name;
use off_events::Barcode;
use photo::image_url;
use scores::{nova_group, nutriscore_grade, nutriscore_score};
use serde::Serialize;
use tags::{brands, categories};
use times::{last_modified, last_updated};

/// Longer texts of a quantity are cut, in characters.
const MAX_QUANTITY_LENGTH: usize = 150;

/// A product of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Product {
    /// The barcode in normal form.
    pub barcode: Barcode,
    /// The name, without HTML entities and control characters.
    pub name: String,
    /// The quantity as printed on the pack, such as `500 g`.
    pub quantity: String,
    /// The amount in a pack, in `product_quantity_unit`.
    pub product_quantity: Option<f64>,
    /// The unit of `product_quantity`, such as `g` or `ml`.
    pub product_quantity_unit: Option<String>,
    /// The URL of the front photo, with TLS.
    pub image_url: Option<String>,
    /// Energy of 100 g or 100 ml, in kilocalories.
    pub kcal_100g: Option<f64>,
    /// Energy of a serving, in kilocalories.
    pub kcal_serving: Option<f64>,
    /// Degree of processing, 1 to 4.
    pub nova_group: i16,
    /// The Nutri-Score, -18 to 55; lower is healthier.
    pub nutriscore_score: Option<i16>,
    /// The grade of the Nutri-Score, `a` to `e`.
    pub nutriscore_grade: String,
    /// The level of fat: `low`, `moderate` or `high`.
    pub fat: Option<String>,
    /// The level of saturated fat.
    pub saturated_fat: Option<String>,
    /// The level of sugars.
    pub sugars: Option<String>,
    /// The level of salt.
    pub salt: Option<String>,
    /// Tags of the brands without their language, without duplicates.
    pub brands: Vec<String>,
    /// Tags of the categories with their language, without duplicates.
    pub categories: Vec<String>,
    /// Whether the product is no longer sold.
    pub obsolete: bool,
    /// When somebody last changed the record; 1970 if unknown.
    pub last_modified: DateTime<Utc>,
    /// When Open Food Facts last recomputed a value of the record, such as its Nutri-Score; never before
    /// `last_modified`.
    pub last_updated: DateTime<Utc>,
}

impl Product {
    /// The product that `record` describes, and the corrections of the record. Fails with the reason if it cannot
    /// become a product.
    pub fn from_record(record: &Record, profile: Profile) -> Result<(Self, Corrections), RejectReason> {
        let mut corrections = record.corrections;
        let barcode = barcode(&record.code).ok_or(RejectReason::NoBarcode)?;
        let name = name(record, &mut corrections).ok_or(RejectReason::NoName)?;
        let quantity = text(&record.quantity, MAX_QUANTITY_LENGTH, &mut corrections).ok_or(RejectReason::NoQuantity)?;
        check_states(record, profile)?;
        let image_url = image_url(record, &barcode).ok_or(RejectReason::NoPhoto)?;
        let nova_group = nova_group(record, &mut corrections)?;
        let nutriscore_score = nutriscore_score(record, &mut corrections)?;
        let nutriscore_grade = nutriscore_grade(record)?;
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
            nutriscore_grade,
            fat,
            saturated_fat,
            sugars,
            salt,
            brands: brands(record, &mut corrections),
            categories: categories(record, &mut corrections),
            obsolete: record.obsolete.is_yes(),
            last_modified,
            last_updated: last_updated(record, last_modified),
        };
        Ok((product, corrections))
    }

    /// The list price in cents, for a product without an observed one. The fingerprint does not count it: it follows from
    /// values that the fingerprint counts.
    pub(crate) fn invented_price(&self) -> i64 {
        invented_price(&self.categories, self.product_quantity, self.product_quantity_unit.as_deref())
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

/// Fails if the record lacks a state tag that the profile needs.
fn check_states(record: &Record, profile: Profile) -> Result<(), RejectReason> {
    let states = record.states_tags.texts();
    let has = |tag: &str| states.iter().any(|state| state == tag);
    if profile.tags().iter().all(|tag| has(tag)) { Ok(()) } else { Err(RejectReason::MissingState) }
}

#[cfg(test)]
mod tests {
    use super::{scores::NUTRISCORES, *};
    use crate::correction::Correction;
    use proptest::prelude::*;

    /// A valid record with these fields added; of a repeated field the last one counts.
    fn record(fields: &str) -> Record {
        let valid = r#""code": "2000000000015", "product_name": "Red lentils", "quantity": "500 g", "nova_group": 1,
            "nutriscore_grade": "a", "images": {"front_en": {"rev": "3"}}, "states_tags": ["en:product-name-completed",
            "en:brands-completed", "en:quantity-completed", "en:front-photo-selected", "en:nutrition-facts-completed"]"#;
        let comma = if fields.is_empty() { "" } else { "," };
        Record::read(format!("{{{valid}{comma}{fields}}}").as_bytes()).unwrap()
    }

    fn product(fields: &str) -> Result<Product, RejectReason> {
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
            (r#""product_name": "a \ud83d b""#, Correction::UnpairedSurrogate),
            (r#""product_name": "a\u0000b""#, Correction::ControlCharacters),
            (r#""product_name": "a &amp; b""#, Correction::HtmlEntities),
            (r#""nova_group": "4""#, Correction::OtherType),
            (r#""quantity": 500"#, Correction::OtherType),
            (r#""nutriments": {"energy-kcal_100g": 1e25}"#, Correction::ImplausibleNumber),
            (r#""product_quantity": -1"#, Correction::ImplausibleNumber),
            (r#""product_quantity": "NaN""#, Correction::ImplausibleNumber),
            (r#""product_quantity": "0,5""#, Correction::OtherType),
            (r#""nutriscore_score": 1.5"#, Correction::ImplausibleNumber),
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
    fn obsolete_products_are_marked() {
        for (field, obsolete) in [("\"on\"", true), ("1", true), ("true", true), ("\"\"", false), ("false", false)] {
            assert_eq!(product(&format!("\"obsolete\": {field}")).unwrap().obsolete, obsolete, "{field}");
        }
    }

    #[test]
    fn every_broken_rule_has_its_reject_reason() {
        for (fields, reason) in [
            (r#""code": "2-KG-PACK""#, RejectReason::NoBarcode),
            (r#""code": "0000""#, RejectReason::NoBarcode),
            // Too many digits for a number: rounded, it would be the barcode of another product.
            (r#""code": 123456789012345678901234"#, RejectReason::NoBarcode),
            (r#""product_name": " \u0000 ""#, RejectReason::NoName),
            (r#""quantity": """#, RejectReason::NoQuantity),
            (r#""states_tags": []"#, RejectReason::MissingState),
            (r#""images": {}"#, RejectReason::NoPhoto),
            (r#""nova_group": 5"#, RejectReason::NovaGroup),
            (r#""nova_group": 1.5"#, RejectReason::NovaGroup),
            (r#""nutriscore_score": 56"#, RejectReason::NutriscoreScore),
            (r#""nutriscore_score": "-19""#, RejectReason::NutriscoreScore),
            (r#""nutriscore_grade": "unknown""#, RejectReason::NutriscoreGrade),
        ] {
            assert_eq!(product(fields).unwrap_err(), reason, "{fields}");
        }
        assert!(product("").is_ok());
    }

    #[test]
    fn profiles_ask_for_different_tags() {
        assert_eq!(Product::from_record(&record(""), Profile::Strict), Err(RejectReason::MissingState));
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
