//! A product record of Open Food Facts: the fields that the importer uses, with lenient values.

use crate::{
    correction::{Correction, Corrections},
    lenient::{Lenient, LenientObject},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// Fields that are requested from the API; whole records are a hundred times as large. Names in other languages are
/// requested only for the languages with the most products.
pub(crate) const FIELDS: &str = "code,product_name,generic_name,product_name_fr,product_name_en,product_name_de,\
    product_name_es,product_name_it,product_name_pt,product_name_nl,product_name_pl,quantity,product_quantity,product_quantity_unit,\
    image_url,image_front_url,images,lang,nutriments,nutrition,nutrient_levels,nova_group,nutriscore_score,\
    nutriscore_grade,brands,brands_tags,categories_tags,countries_tags,states_tags,obsolete,last_modified_t,last_updated_t";

/// One record. If a field occurs twice, the last one counts.
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

/// Nutrients in the format of most records.
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

/// Nutrients in the format of schema 1003 and later.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Nutrition {
    pub(crate) aggregated_set: LenientObject<AggregatedSet>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AggregatedSet {
    /// `100g`, `100ml`, or `serving`.
    pub(crate) per: Lenient,
    /// `as_sold` or `prepared`.
    pub(crate) preparation: Lenient,
    pub(crate) nutrients: LenientObject<AggregatedNutrients>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AggregatedNutrients {
    #[serde(rename = "energy-kcal")]
    pub(crate) kcal: LenientObject<AggregatedNutrient>,
    #[serde(rename = "energy-kj")]
    pub(crate) kj: LenientObject<AggregatedNutrient>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AggregatedNutrient {
    pub(crate) value: Lenient,
    pub(crate) source: Lenient,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NutrientLevels {
    pub(crate) fat: Lenient,
    #[serde(rename = "saturated-fat")]
    pub(crate) saturated_fat: Lenient,
    pub(crate) sugars: Lenient,
    pub(crate) salt: Lenient,
}

/// The revision of the selected front photo of each language.
#[derive(Debug, Clone, Default)]
pub(crate) struct Images {
    pub(crate) front: BTreeMap<String, Lenient>,
    /// The front photo of an old record, from before photos had a language.
    pub(crate) front_without_language: Lenient,
}

impl Images {
    /// Stores the revision of a photo if its name is that of a front photo.
    pub(crate) fn set_revision(&mut self, name: &str, rev: Lenient) {
        if let Some(language) = name.strip_prefix("front_") {
            self.front.insert(language.to_owned(), rev);
        } else if name == "front" {
            self.front_without_language = rev;
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Image {
    rev: Lenient,
}

/// The selected photos in the format of newer records, grouped by purpose.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Selected {
    front: LenientObject<BTreeMap<String, LenientObject<Image>>>,
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RecordVisitor;

        impl<'de> Visitor<'de> for RecordVisitor {
            type Value = Record;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a product record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Record, A::Error> {
                let mut record = Record::default();
                while let Some(name) = fields.next_key::<Cow<'_, str>>()? {
                    match name.as_ref() {
                        "code" => record.code = fields.next_value()?,
                        // Some records in old dumps have no `code`.
                        "_id" if record.code == Lenient::Nothing => record.code = fields.next_value()?,
                        "product_name" => record.product_name = fields.next_value()?,
                        "generic_name" => record.generic_name = fields.next_value()?,
                        "lang" => record.lang = fields.next_value()?,
                        "quantity" => record.quantity = fields.next_value()?,
                        "product_quantity" => record.product_quantity = fields.next_value()?,
                        "product_quantity_unit" => record.product_quantity_unit = fields.next_value()?,
                        "image_url" => record.image_url = fields.next_value()?,
                        "image_front_url" if record.image_url == Lenient::Nothing => {
                            record.image_url = fields.next_value()?;
                        }
                        "images" => record.images = fields.next_value::<LenientObject<_>>()?.0,
                        "nutriments" => record.nutriments = fields.next_value::<LenientObject<_>>()?.0,
                        "nutrition" => record.nutrition = fields.next_value::<LenientObject<_>>()?.0,
                        "nutrient_levels" => record.nutrient_levels = fields.next_value::<LenientObject<_>>()?.0,
                        "nutrient_levels_tags" => record.nutrient_levels_tags = fields.next_value()?,
                        "nova_group" => record.nova_group = fields.next_value()?,
                        "nutriscore_score" => record.nutriscore_score = fields.next_value()?,
                        "nutriscore_grade" => record.nutriscore_grade = fields.next_value()?,
                        "brands" => record.brands = fields.next_value()?,
                        "brands_tags" => record.brands_tags = fields.next_value()?,
                        "categories_tags" => record.categories_tags = fields.next_value()?,
                        "countries_tags" => record.countries_tags = fields.next_value()?,
                        "states_tags" => record.states_tags = fields.next_value()?,
                        "obsolete" => record.obsolete = fields.next_value()?,
                        "last_modified_t" => record.last_modified_t = fields.next_value()?,
                        "last_updated_t" => record.last_updated_t = fields.next_value()?,
                        name => match name.strip_prefix("product_name_") {
                            Some(language) if language.len() == 2 => {
                                let language = language.to_owned();
                                record.names.insert(language, fields.next_value()?);
                            }
                            _ => drop(fields.next_value::<IgnoredAny>()?),
                        },
                    }
                }
                Ok(record)
            }
        }

        deserializer.deserialize_map(RecordVisitor)
    }
}

impl<'de> Deserialize<'de> for Images {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ImagesVisitor;

        impl<'de> Visitor<'de> for ImagesVisitor {
            type Value = Images;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("photos by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut photos: A) -> Result<Images, A::Error> {
                let mut images = Images::default();
                while let Some(name) = photos.next_key::<Cow<'_, str>>()? {
                    if name.starts_with("front") {
                        let rev = photos.next_value::<LenientObject<Image>>()?.0.rev;
                        images.set_revision(&name, rev);
                    } else if name == "selected" {
                        let front = photos.next_value::<LenientObject<Selected>>()?.0.front.0;
                        images.front.extend(front.into_iter().map(|(language, image)| (language, image.0.rev)));
                    } else {
                        photos.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(images)
            }
        }

        deserializer.deserialize_map(ImagesVisitor)
    }
}

impl Record {
    /// Parses one line of an export. Invalid UTF-8 and halves of surrogate pairs become replacement characters, control
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
        for correction in [Correction::HalfSurrogate, Correction::ControlCharacters, Correction::AbsurdNumber] {
            let better = match correction {
                Correction::HalfSurrogate => pair_surrogates(&corrected),
                Correction::ControlCharacters => blank_controls(&corrected),
                _ => without_infinities(&corrected),
            };
            let Some(better) = better else { continue };
            corrections.add(correction);
            if let Ok(record) = serde_json::from_str(&better) {
                return Some(Self { corrections, ..record });
            }
            corrected = Cow::Owned(better);
        }
        None
    }
}

/// Replaces each half of a surrogate pair, such as a lone `\ud83d`, with `\ufffd`. `None` if there is none.
fn pair_surrogates(text: &str) -> Option<String> {
    let unit = |at: usize| -> Option<u16> {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut corrected, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                corrected.push_str(&text[copied..at]);
                corrected.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
            // Another escape. Its second character may be a backslash, but starts no escape.
            None => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    corrected.push_str(&text[copied..]);
    (copied > 0).then_some(corrected)
}

/// Replaces control characters with blanks, because JSON allows them only between tokens. `None` if there are none.
fn blank_controls(text: &str) -> Option<String> {
    text.contains(|c: char| c.is_ascii_control()).then(|| text.replace(|c: char| c.is_ascii_control(), " "))
}

/// Replaces each number that is too large for a float with `null`. `None` if there is none.
fn without_infinities(text: &str) -> Option<String> {
    let (mut corrected, mut copied, mut at, mut is_within) = (String::new(), 0, 0, false);
    let is_number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    while let Some(&byte) = text.as_bytes().get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => is_within = !is_within,
            b'-' | b'0'..=b'9' if !is_within => {
                let length = text.bytes().skip(at).take_while(|&byte| is_number(byte)).count();
                if text[at..at + length].parse().is_ok_and(f64::is_infinite) {
                    corrected.push_str(&text[copied..at]);
                    corrected.push_str("null");
                    copied = at + length;
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    corrected.push_str(&text[copied..]);
    (copied > 0).then_some(corrected)
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
        assert_eq!(record.corrections.iter().collect::<Vec<_>>(), [Correction::AbsurdNumber]);
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
    fn half_a_surrogate_pair_loses_only_one_character() {
        let record = Record::read(br#"{"product_name": "a\ud83d b\ud83d\ude00 \\ud83d", "code": "1"}"#).unwrap();
        assert_eq!(record.product_name.text().as_deref(), Some("a\u{fffd} b\u{1f600} \\ud83d"));
    }

    #[test]
    fn a_control_character_becomes_a_blank() {
        let record = Record::read(b"{\"product_name\": \"a\0b\\ud83d\x01\",\t\"code\": \"1\"}\r").unwrap();
        assert_eq!(record.product_name.text().as_deref(), Some("a b\u{fffd} "));
        let corrections: Vec<_> = record.corrections.iter().collect();
        assert_eq!(corrections, [Correction::HalfSurrogate, Correction::ControlCharacters]);
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
