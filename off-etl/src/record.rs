//! A product record of Open Food Facts: the fields that the importer uses, with lenient values.

mod fields;
mod images;
mod nutrients;
mod repair;

pub(crate) use nutrients::AggregatedNutrient;

use crate::{
    correction::{Correction, Corrections},
    lenient::Lenient,
};
use images::Images;
use nutrients::{NutrientLevels, Nutriments, Nutrition};
use repair::REPAIRS;
use std::{borrow::Cow, collections::BTreeMap};

/// Fields that are requested from the API; whole records are a hundred times as large. Names in other languages are
/// requested only for the languages with the most products.
pub(crate) const FIELDS: &str = "code,product_name,generic_name,product_name_fr,product_name_en,product_name_de,\
    product_name_es,product_name_it,product_name_pt,product_name_nl,product_name_pl,quantity,product_quantity,product_quantity_unit,\
    image_url,image_front_url,images,lang,nutriments,nutrition,nutrient_levels,nova_group,nutriscore_score,\
    nutriscore_grade,brands,brands_tags,categories_tags,countries_tags,states_tags,obsolete,last_modified_t,last_updated_t";

/// One record of a product. Its fields have the names that Open Food Facts uses. If a field occurs twice, the last one
/// counts.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub(crate) code: Lenient,
    pub(crate) product_name: Lenient,
    pub(crate) generic_name: Lenient,
    /// `product_name_fr` and the like, by language.
    pub(crate) names: BTreeMap<String, Lenient>,
    pub(crate) lang: Lenient,
    pub(crate) quantity: Lenient,
    pub(crate) product_quantity: Lenient,
    pub(crate) product_quantity_unit: Lenient,
    pub(crate) image_url: Lenient,
    pub(crate) images: Images,
    pub(crate) nutriments: Nutriments,
    pub(crate) nutrition: Nutrition,
    pub(crate) nutrient_levels: NutrientLevels,
    /// `en:fat-in-low-quantity` and the like, where a source has no `nutrient_levels`.
    pub(crate) nutrient_levels_tags: Lenient,
    pub(crate) nova_group: Lenient,
    pub(crate) nutriscore_score: Lenient,
    pub(crate) nutriscore_grade: Lenient,
    pub(crate) brands: Lenient,
    pub(crate) brands_tags: Lenient,
    pub(crate) categories_tags: Lenient,
    pub(crate) countries_tags: Lenient,
    pub(crate) states_tags: Lenient,
    pub(crate) obsolete: Lenient,
    pub(crate) last_modified_t: Lenient,
    pub(crate) last_updated_t: Lenient,
    /// Corrections that were necessary to parse the record.
    pub(crate) corrections: Corrections,
}

impl Record {
    /// Parses one line of an export. Invalid UTF-8 and unpaired surrogates become replacement characters, control
    /// characters become blanks, and numbers too large for a float become `null`. The record is kept.
    ///
    /// Fails if the line is not a JSON object even then.
    pub fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        let text = String::from_utf8_lossy(line);
        let mut record = serde_json::from_str(&text).or_else(|error| Self::read_corrected(&text).ok_or(error))?;
        if let Cow::Owned(_) = text {
            record.corrections.add(Correction::BrokenUtf8);
        }
        Ok(record)
    }

    /// Parses a line that is not valid JSON, with one correction after the other.
    fn read_corrected(text: &str) -> Option<Self> {
        let (mut corrected, mut corrections) = (Cow::Borrowed(text), Corrections::default());
        for (correction, repair) in REPAIRS {
            let Some(better) = repair(&corrected) else { continue };
            corrections.add(correction);
            if let Ok(record) = serde_json::from_str(&better) {
                return Some(Self { corrections, ..record });
            }
            corrected = Cow::Owned(better);
        }
        None
    }

    /// The tags of the brands, or else the text with their names.
    pub(crate) fn brand_names(&self) -> &Lenient {
        if self.brands_tags == Lenient::Nothing { &self.brands } else { &self.brands_tags }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_too_large_for_a_float_loses_only_its_field() {
        let line = br#"{"product_name": "1e999 \" 2e999", "quantity": -1e999, "nova_group": 1E+400, "code": "1"}"#;
        let record = Record::read(line).unwrap();
        assert_eq!(record.product_name.text().as_deref(), Some("1e999 \" 2e999"));
        assert_eq!((record.quantity, record.nova_group), (Lenient::Nothing, Lenient::Nothing));
        assert_eq!(record.corrections.iter().collect::<Vec<_>>(), [Correction::ImplausibleNumber]);
    }

    #[test]
    fn a_wrong_type_loses_only_its_field() {
        let record = Record::read(
            br#"{"code": 12345678, "product_name": ["x"], "quantity": 500, "nutriments": [], "images": null,
                "nutrition": "", "nutrient_levels": 7, "brands_tags": "a,b", "nova_group": {"a": [1]}, "code": "87654321"}"#,
        )
        .unwrap();
        assert_eq!(record.code.text().as_deref(), Some("87654321"));
        assert_eq!(record.product_name.text(), None);
        assert_eq!(record.quantity.text().as_deref(), Some("500"));
        assert_eq!(record.brands_tags.texts(), ["a", "b"]);
        assert_eq!(record.nova_group.whole(), None);
    }

    #[test]
    fn an_unpaired_surrogate_loses_only_one_character() {
        let record = Record::read(br#"{"product_name": "a\ud83d b\ud83d\ude00 \\ud83d", "code": "1"}"#).unwrap();
        assert_eq!(record.product_name.text().as_deref(), Some("a\u{fffd} b\u{1f600} \\ud83d"));
    }

    #[test]
    fn a_control_character_becomes_a_blank() {
        let record = Record::read(b"{\"product_name\": \"a\0b\\ud83d\x01\",\t\"code\": \"1\"}\r").unwrap();
        assert_eq!(record.product_name.text().as_deref(), Some("a b\u{fffd} "));
        let corrections: Vec<_> = record.corrections.iter().collect();
        assert_eq!(corrections, [Correction::UnpairedSurrogate, Correction::ControlCharacters]);
        assert!(Record::read(b"{\"product_name\": \"a\0b\"").is_err());
    }

    proptest! {
        #[test]
        fn no_line_causes_a_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::read(&line);
        }

        #[test]
        fn no_escape_causes_a_panic(text in "[\\\\ud8c0def\"é]{0,40}") {
            let _ = Record::read(format!("{{\"product_name\": \"{text}\"}}").as_bytes());
        }
    }
}
