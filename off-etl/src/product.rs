//! What a record becomes: a product that keeps every rule, or a reason why not.

use crate::{
    loose::Loose,
    mend::{Mend, Mends, number, tag, text, whole},
    record::{AggregatedNutrient, Record},
};
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use off_events::Barcode;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, ops::RangeInclusive};

/// A product as the catalogue keeps it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Product {
    pub barcode: Barcode,
    pub name: String,
    /// As printed on the pack.
    pub quantity: String,
    pub product_quantity: Option<f64>,
    pub product_quantity_unit: Option<String>,
    pub image_url: Option<String>,
    pub kcal_100g: Option<f64>,
    pub kcal_serving: Option<f64>,
    pub nova_group: i16,
    pub nutriscore_score: Option<i16>,
    /// `a` to `e`.
    pub nutriscore_grade: String,
    /// `low`, `moderate` or `high`.
    pub fat: Option<String>,
    pub saturated_fat: Option<String>,
    pub sugars: Option<String>,
    pub salt: Option<String>,
    /// Tags without their language, each once.
    pub brands: Vec<String>,
    pub categories: Vec<String>,
    /// No longer sold.
    pub obsolete: bool,
    /// When the record last changed; 1970 where it does not say.
    pub last_modified: DateTime<Utc>,
}

/// Why a record is no product for the catalogue. Of several reasons the first in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Reject {
    #[error("longer than 4 MiB")]
    TooLong,
    #[error("not JSON, or not an object")]
    NotJson,
    #[error("a row with another number of columns than the header")]
    BadRow,
    #[error("no barcode, or one that is not digits")]
    NoBarcode,
    #[error("no name")]
    NoName,
    #[error("no quantity")]
    NoQuantity,
    #[error("a mandatory state tag is missing")]
    MissingState,
    #[error("no front photo")]
    NoPhoto,
    #[error("NOVA group absent or outside 1 to 4")]
    NovaGroup,
    #[error("Nutri-Score outside -18 to 55")]
    NutriscoreScore,
    #[error("Nutri-Score grade absent or outside a to e")]
    NutriscoreGrade,
}

/// Which state tags a record has to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Name, brands, quantity, front photo and nutrition facts complete, and `checked`, which hardly a product is.
    Strict,
    /// The same without `checked`.
    Default,
    /// No tag at all.
    All,
}

impl Profile {
    /// As it is written in settings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Default => "default",
            Self::All => "all",
        }
    }

    fn tags(self) -> &'static [&'static str] {
        const TAGS: [&str; 6] = [
            "en:product-name-completed",
            "en:brands-completed",
            "en:quantity-completed",
            "en:front-photo-selected",
            "en:nutrition-facts-completed",
            "en:checked",
        ];
        match self {
            Self::Strict => &TAGS,
            Self::Default => &TAGS[..5],
            Self::All => &[],
        }
    }
}

/// Longest texts the catalogue keeps, in characters; real ones are far below, spam is not.
const LONGEST_NAME: usize = 300;
const LONGEST_TAG: usize = 150;
const LONGEST_UNIT: usize = 20;
/// The most brands or categories of one product.
const MOST_TAGS: usize = 100;

/// The first second of the year 2100, in UNIX time.
const LATEST_CHANGE: i64 = 4_102_444_800;

/// What the Nutri-Score of 2023 can be: against foods count energy 10, sugars 15, saturated fat 10 and salt 20, for drinks protein 7, fibre
/// 5 and fruit 6 (`nutriscore.2023.data.components.*.points_max` in the documents of Open Food Facts).
const NUTRISCORES: RangeInclusive<i64> = -18..=55;

/// Kilojoules in a kilocalorie (Regulation (EU) No 1169/2011, annex XIV rounds this to 4.2).
const KJ_PER_KCAL: f64 = 4.184;
/// Pure fat has 900 kcal per 100 g; more is a typing error.
const MOST_KCAL_100G: f64 = 1000.0;
const MOST_KCAL_SERVING: f64 = 10_000.0;

impl Product {
    /// The product that `record` describes, and what was put right in it.
    pub fn from_record(record: &Record, profile: Profile) -> Result<(Self, Mends), Reject> {
        let mut mends = record.mends;
        let barcode: Barcode = code(record).trim().parse().map_err(|_| Reject::NoBarcode)?;
        let name = name(record, &mut mends).ok_or(Reject::NoName)?;
        let quantity = text(&record.quantity, LONGEST_TAG, &mut mends).ok_or(Reject::NoQuantity)?;
        let states = record.states_tags.texts();
        if !profile.tags().iter().all(|tag| states.iter().any(|state| state == tag)) {
            return Err(Reject::MissingState);
        }
        let image_url = image_url(record, &barcode).ok_or(Reject::NoPhoto)?;
        let nova_group = match whole(&record.nova_group, &mut mends) {
            Some(group @ 1..=4) => i16::try_from(group).map_err(|_| Reject::NovaGroup)?,
            _ => return Err(Reject::NovaGroup),
        };
        let nutriscore_score = match whole(&record.nutriscore_score, &mut mends) {
            None => {
                if !record.nutriscore_score.is_empty() {
                    mends.add(Mend::AbsurdNumber);
                }
                None
            }
            Some(score) if NUTRISCORES.contains(&score) => i16::try_from(score).ok(),
            Some(_) => return Err(Reject::NutriscoreScore),
        };
        let grade = record.nutriscore_grade.text().unwrap_or_default().to_ascii_lowercase();
        if !matches!(grade.as_str(), "a" | "b" | "c" | "d" | "e") {
            return Err(Reject::NutriscoreGrade);
        }
        let brands = if record.brands_tags == Loose::Nothing { &record.brands } else { &record.brands_tags };
        let product_quantity = number(&record.product_quantity, 1e6, &mut mends);
        let (kcal_100g, kcal_serving) = energy(record, &mut mends);
        let [fat, saturated_fat, sugars, salt] = levels(record);
        let product = Self {
            barcode,
            name,
            quantity,
            product_quantity,
            product_quantity_unit: product_quantity
                .and_then(|_| text(&record.product_quantity_unit, LONGEST_UNIT, &mut mends)),
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
            brands: tags(brands, without_language, &mut mends),
            categories: tags(&record.categories_tags, |tag| tag, &mut mends),
            obsolete: record.obsolete.is_yes(),
            last_modified: last_modified(record, &mut mends),
        };
        Ok((product, mends))
    }

    /// Differs where anything of the product does, and is the same on every machine: of two records that changed in the same
    /// second, the one with the greater one counts, whichever comes first. That is the one that knows more, because the exports do
    /// not all have everything.
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

/// A barcode as it was written; a number that is too large to be exact is none.
fn code(record: &Record) -> String {
    match &record.code {
        Loose::Number(_) => record.code.whole().map(|code| code.to_string()),
        code => code.text(),
    }
    .unwrap_or_default()
}

/// The product's own name, else what it is, else its name in its own language, in English, in any.
fn name(record: &Record, mends: &mut Mends) -> Option<String> {
    let own_language = record.lang.text().and_then(|lang| record.names.get(&lang));
    let others = own_language.into_iter().chain(record.names.get("en")).chain(record.names.values());
    [&record.product_name, &record.generic_name]
        .into_iter()
        .chain(others)
        .find_map(|name| text(name, LONGEST_NAME, mends))
}

/// Tags, each once, in their order.
fn tags(value: &Loose, name: fn(&str) -> &str, mends: &mut Mends) -> Vec<String> {
    let mut seen = BTreeSet::new();
    value
        .texts()
        .into_iter()
        .map(|value| name(&tag(&value, LONGEST_TAG, mends)).to_owned())
        .filter(|tag| !tag.is_empty() && seen.insert(tag.clone()))
        .take(MOST_TAGS)
        .collect()
}

/// `xx:ferrero` and `ferrero` are one brand.
fn without_language(tag: &str) -> &str {
    match tag.split_once(':') {
        Some((language, name)) if language.len() == 2 && language.bytes().all(|b| b.is_ascii_lowercase()) => name,
        _ => tag,
    }
}

/// How much fat, saturated fat, sugar and salt there is, by the record's levels or else by its tags.
fn levels(record: &Record) -> [Option<String>; 4] {
    let levels = &record.nutrient_levels;
    let stated = [&levels.fat, &levels.saturated_fat, &levels.sugars, &levels.salt].map(level);
    if stated.iter().any(Option::is_some) || record.nutrient_levels_tags == Loose::Nothing {
        return stated;
    }
    let tags = record.nutrient_levels_tags.texts();
    ["fat", "saturated-fat", "sugars", "salt"].map(|nutrient| {
        let prefix = format!("en:{nutrient}-in-");
        tags.iter()
            .find_map(|tag| level(&Loose::Text(tag.strip_prefix(&prefix)?.strip_suffix("-quantity")?.to_owned())))
    })
}

fn level(value: &Loose) -> Option<String> {
    value.text().filter(|level| matches!(level.as_str(), "low" | "moderate" | "high"))
}

/// Kilocalories of 100 g or ml, and of a serving: by the newer schema where a record has it, else by the older; what a program only
/// estimated is not taken.
fn energy(record: &Record, mends: &mut Mends) -> (Option<f64>, Option<f64>) {
    let (set, nutriments) = (&record.nutrition.aggregated_set.0, &record.nutriments);
    let stated = |nutrient: &AggregatedNutrient| {
        if nutrient.source.text().as_deref() == Some("estimate") { Loose::Nothing } else { nutrient.value.clone() }
    };
    let is_serving = set.per.text().as_deref() == Some("serving");
    let most = if is_serving { MOST_KCAL_SERVING } else { MOST_KCAL_100G };
    let newer = kcal(&stated(&set.nutrients.0.kcal.0), &stated(&set.nutrients.0.kj.0), most, mends);
    let of_100g = newer.filter(|_| !is_serving);
    let of_serving = newer.filter(|_| is_serving);
    (
        of_100g.or_else(|| kcal(&nutriments.kcal_100g, &nutriments.kj_100g, MOST_KCAL_100G, mends)),
        of_serving.or_else(|| kcal(&nutriments.kcal_serving, &nutriments.kj_serving, MOST_KCAL_SERVING, mends)),
    )
}

/// Kilocalories as they are stated, else from kilojoules; nothing where the number is absurd.
fn kcal(kcal: &Loose, kj: &Loose, most: f64, mends: &mut Mends) -> Option<f64> {
    number(kcal, most, mends).or_else(|| number(kj, most * KJ_PER_KCAL, mends).map(|kj| kj / KJ_PER_KCAL))
}

/// The address that the record gives, else the one that its barcode and its photos make. Exports have no address; the
/// rule is Open Food Facts' own: English first, then the product's language, then any.
fn image_url(record: &Record, barcode: &Barcode) -> Option<String> {
    if let Some(url) = record.image_url.text().filter(|url| is_address(url)) {
        return Some(url);
    }
    let photo = |language: &str| {
        let is_language = language.len() <= 3 && language.bytes().all(|byte| byte.is_ascii_lowercase());
        let rev = record.images.front.get(language)?.whole()?;
        is_language.then(|| (language.to_owned(), rev))
    };
    let any = || record.images.front.keys().find_map(|language| photo(language));
    let (language, rev) = photo("en").or_else(|| photo(&record.lang.text()?)).or_else(any)?;
    let code = format!("{:0>13}", barcode.as_str());
    let (a, b, c, rest) = (code.get(..3)?, code.get(3..6)?, code.get(6..9)?, code.get(9..)?);
    Some(format!("https://images.openfoodfacts.org/images/products/{a}/{b}/{c}/{rest}/front_{language}.{rev}.400.jpg"))
}

fn is_address(url: &str) -> bool {
    url.starts_with("https://") && url.len() <= 500 && url.bytes().all(|byte| byte.is_ascii_graphic())
}

/// When a record last changed, where it says so.
pub(crate) fn changed(record: &Record) -> Option<DateTime<Utc>> {
    // Milliseconds, and other times that are far from ours, are no times.
    let seconds = record.last_modified_t.whole().filter(|seconds| (0..=LATEST_CHANGE).contains(seconds))?;
    DateTime::from_timestamp(seconds, 0)
}

fn last_modified(record: &Record, mends: &mut Mends) -> DateTime<Utc> {
    let changed = changed(record);
    match (changed, &record.last_modified_t) {
        (None, _) => mends.add(Mend::NoTime),
        (Some(_), Loose::Text(_)) => mends.add(Mend::OtherType),
        _ => {}
    }
    changed.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record that becomes a product, with these fields put over its own.
    fn record(fields: &str) -> Record {
        let sound = r#""code": "2000000000015", "product_name": "Red lentils", "quantity": "500 g", "nova_group": 1,
            "nutriscore_grade": "a", "images": {"front_en": {"rev": "3"}}, "states_tags": ["en:product-name-completed",
            "en:brands-completed", "en:quantity-completed", "en:front-photo-selected", "en:nutrition-facts-completed"]"#;
        let comma = if fields.is_empty() { "" } else { "," };
        Record::read(format!("{{{sound}{comma}{fields}}}").as_bytes()).unwrap()
    }

    fn product(fields: &str) -> Result<Product, Reject> {
        Product::from_record(&record(fields), Profile::Default).map(|(product, _)| product)
    }

    fn mends(fields: &str) -> Vec<Mend> {
        let with_time = format!(r#""last_modified_t": 1700000000{}{fields}"#, if fields.is_empty() { "" } else { "," });
        Product::from_record(&record(&with_time), Profile::Default).unwrap().1.iter().collect()
    }

    #[test]
    fn what_is_put_right_is_told() {
        assert_eq!(mends(""), []);
        for (fields, mend) in [
            (r#""product_name": "a \ud83d b""#, Mend::HalfSurrogate),
            (r#""product_name": "a\u0000b""#, Mend::ControlCharacters),
            (r#""product_name": "a &amp; b""#, Mend::HtmlEntities),
            (r#""nova_group": "4""#, Mend::OtherType),
            (r#""quantity": 500"#, Mend::OtherType),
            (r#""nutriments": {"energy-kcal_100g": 1e25}"#, Mend::AbsurdNumber),
            (r#""product_quantity": -1"#, Mend::AbsurdNumber),
            (r#""product_quantity": "NaN""#, Mend::AbsurdNumber),
            (r#""product_quantity": "0,5""#, Mend::OtherType),
            (r#""nutriscore_score": 1.5"#, Mend::AbsurdNumber),
            (r#""last_modified_t": "soon""#, Mend::NoTime),
        ] {
            assert_eq!(mends(fields), [mend], "{fields}");
        }
        assert_eq!(mends(&format!(r#""product_name": "{}""#, "x".repeat(301))), [Mend::LongText]);
    }

    #[test]
    fn levels_are_read_from_tags_where_there_is_nothing_else() {
        let tags = r#""nutrient_levels_tags": ["en:fat-in-low-quantity", "en:saturated-fat-in-high-quantity"]"#;
        let product = product(tags).unwrap();
        assert_eq!((product.fat.as_deref(), product.saturated_fat.as_deref()), (Some("low"), Some("high")));
        assert_eq!((product.sugars, product.salt), (None, None));
    }

    #[test]
    fn of_two_records_of_one_second_the_one_that_knows_more_counts() {
        let less = product(r#""nutriscore_score": 3"#).unwrap();
        for quantity in 1..50 {
            let more = format!(
                r#""nutriscore_score": 3, "quantity": "{quantity} g", "nutriments": {{"energy-kcal_100g": 345}}"#
            );
            assert!(product(&more).unwrap().fingerprint() > less.fingerprint());
        }
    }

    #[test]
    fn what_is_no_longer_sold_is_marked() {
        for (field, obsolete) in [("\"on\"", true), ("1", true), ("true", true), ("\"\"", false), ("false", false)] {
            assert_eq!(product(&format!("\"obsolete\": {field}")).unwrap().obsolete, obsolete, "{field}");
        }
    }

    #[test]
    fn every_rule_has_its_reason() {
        for (fields, reason) in [
            (r#""code": "2-KG-PACK""#, Reject::NoBarcode),
            (r#""code": "0000""#, Reject::NoBarcode),
            // More than a number can hold: it would be another product's.
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
    fn types_that_drift_are_understood() {
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
    fn a_time_far_from_ours_is_none() {
        for time in ["1700000000000", "-5", "1e300", "\"soon\""] {
            assert_eq!(product(&format!("\"last_modified_t\": {time}")).unwrap().last_modified, DateTime::UNIX_EPOCH);
        }
    }

    #[test]
    fn energy_is_found_where_it_is_and_absurd_values_are_nowhere() {
        let kcal = |fields: &str| product(fields).unwrap().kcal_100g;
        assert_eq!(kcal(r#""nutriments": {"energy-kj_100g": 836.8}"#).map(f64::round), Some(200.0));
        assert_eq!(kcal(r#""nutriments": {"energy-kcal_100g": 1e25}"#), None);
        assert_eq!(kcal(r#""nutriments": {"energy-kcal_100g": -5}"#), None);
        let aggregated = |source: &str| {
            format!(
                r#""nutrition": {{"aggregated_set": {{"nutrients": {{"energy-kcal": {{"value": 348, "source": "{source}"}}}}}}}}"#
            )
        };
        assert_eq!(kcal(&aggregated("packaging")), Some(348.0));
        assert_eq!(kcal(&aggregated("estimate")), None);
        let of_serving =
            r#""nutrition": {"aggregated_set": {"per": "serving", "nutrients": {"energy-kcal": {"value": 100}}}}"#;
        let product = product(of_serving).unwrap();
        assert_eq!((product.kcal_100g, product.kcal_serving), (None, Some(100.0)));
    }

    #[test]
    fn names_and_brands_are_made_readable() {
        let product = product(
            r#""product_name": "  Silk &quot;leche&quot;\t de\u0000coco ",
               "brands_tags": ["xx:silk", null, "", "silk", "en:So Good", "a:b"]"#,
        )
        .unwrap();
        assert_eq!(product.name, "Silk \"leche\" de coco");
        assert_eq!(product.brands, ["silk", "So Good", "a:b"]);
        let french = r#""product_name": "", "lang": "fr", "product_name_de": "Linsen", "product_name_fr": "Lentilles""#;
        assert_eq!(super::tests::product(french).unwrap().name, "Lentilles");
    }

    #[test]
    fn a_photo_has_an_address_by_rule() {
        let address = |fields: &str| product(fields).unwrap().image_url.unwrap();
        let base = "https://images.openfoodfacts.org/images/products";
        assert_eq!(address(""), format!("{base}/200/000/000/0015/front_en.3.400.jpg"));
        let selected = r#""lang": "fr", "images": {"selected": {"front": {"de": {"rev": 7}, "fr": {"rev": "9"}}}}"#;
        assert_eq!(address(selected), format!("{base}/200/000/000/0015/front_fr.9.400.jpg"));
        assert_eq!(address(r#""code": "96385074""#), format!("{base}/000/009/638/5074/front_en.3.400.jpg"));
        assert_eq!(address(r#""image_url": "https://example.org/a.jpg""#), "https://example.org/a.jpg");
        assert!(address(r#""image_url": "https://example.org/\u0000.jpg""#).starts_with(base));
        let spoiled = r#""images": {"front_\u0000": {"rev": "3"}}"#;
        assert_eq!(super::tests::product(spoiled), Err(Reject::NoPhoto));
    }

    proptest! {
        #[test]
        fn a_product_keeps_the_catalogues_rules(
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
