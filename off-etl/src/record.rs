//! A product record of Open Food Facts, as far as it is of use, with types as loose as in life.

use crate::{
    loose::{Loose, LooseObject},
    mend::{Mend, Mends},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// Fields of a record that are asked for from the API, which would send a hundred times as much; of names in other languages, those
/// of the languages with the most products.
pub(crate) const FIELDS: &str = "code,product_name,generic_name,product_name_fr,product_name_en,product_name_de,\
    product_name_es,product_name_it,product_name_pt,product_name_nl,product_name_pl,quantity,product_quantity,product_quantity_unit,\
    image_url,image_front_url,images,lang,nutriments,nutrition,nutrient_levels,nova_group,nutriscore_score,\
    nutriscore_grade,brands,brands_tags,categories_tags,countries_tags,states_tags,obsolete,last_modified_t,last_updated_t";

/// One record. A field that comes twice counts as it came last.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub(crate) code: Loose,
    pub(crate) product_name: Loose,
    pub(crate) generic_name: Loose,
    /// `product_name_fr` and the like, by language.
    pub(crate) names: BTreeMap<String, Loose>,
    pub(crate) lang: Loose,
    pub(crate) quantity: Loose,
    pub(crate) product_quantity: Loose,
    pub(crate) product_quantity_unit: Loose,
    pub(crate) image_url: Loose,
    pub(crate) images: Images,
    pub(crate) nutriments: Nutriments,
    pub(crate) nutrition: Nutrition,
    pub(crate) nutrient_levels: NutrientLevels,
    /// `en:fat-in-low-quantity` and the like, where a source has no `nutrient_levels`.
    pub(crate) nutrient_levels_tags: Loose,
    pub(crate) nova_group: Loose,
    pub(crate) nutriscore_score: Loose,
    pub(crate) nutriscore_grade: Loose,
    pub(crate) brands: Loose,
    pub(crate) brands_tags: Loose,
    pub(crate) categories_tags: Loose,
    pub(crate) countries_tags: Loose,
    pub(crate) states_tags: Loose,
    pub(crate) obsolete: Loose,
    pub(crate) last_modified_t: Loose,
    pub(crate) last_updated_t: Loose,
    /// What was put right to read it at all.
    pub(crate) mends: Mends,
}

/// Nutrients as most records have them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Nutriments {
    #[serde(rename = "energy-kcal_100g")]
    pub(crate) kcal_100g: Loose,
    #[serde(rename = "energy-kcal_serving")]
    pub(crate) kcal_serving: Loose,
    #[serde(rename = "energy-kj_100g")]
    pub(crate) kj_100g: Loose,
    #[serde(rename = "energy-kj_serving")]
    pub(crate) kj_serving: Loose,
}

/// Nutrients as records of schema 1003 and later have them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Nutrition {
    pub(crate) aggregated_set: LooseObject<AggregatedSet>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AggregatedSet {
    /// `100g`, `100ml`, or `serving`.
    pub(crate) per: Loose,
    /// `as_sold` or `prepared`.
    pub(crate) preparation: Loose,
    pub(crate) nutrients: LooseObject<AggregatedNutrients>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AggregatedNutrients {
    #[serde(rename = "energy-kcal")]
    pub(crate) kcal: LooseObject<AggregatedNutrient>,
    #[serde(rename = "energy-kj")]
    pub(crate) kj: LooseObject<AggregatedNutrient>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AggregatedNutrient {
    pub(crate) value: Loose,
    pub(crate) source: Loose,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NutrientLevels {
    pub(crate) fat: Loose,
    #[serde(rename = "saturated-fat")]
    pub(crate) saturated_fat: Loose,
    pub(crate) sugars: Loose,
    pub(crate) salt: Loose,
}

/// The revision of each language's chosen front photo.
#[derive(Debug, Clone, Default)]
pub(crate) struct Images {
    pub(crate) front: BTreeMap<String, Loose>,
    /// The one of a record that is older than photos of several languages.
    pub(crate) front_without_language: Loose,
}

impl Images {
    /// Notes the revision of a photo by its name; only fronts count.
    pub(crate) fn note(&mut self, name: &str, rev: Loose) {
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
    rev: Loose,
}

/// The photos chosen for each purpose, as newer records group them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Selected {
    front: LooseObject<BTreeMap<String, LooseObject<Image>>>,
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
                        // Old dumps have some records with this alone.
                        "_id" if record.code == Loose::Nothing => record.code = fields.next_value()?,
                        "product_name" => record.product_name = fields.next_value()?,
                        "generic_name" => record.generic_name = fields.next_value()?,
                        "lang" => record.lang = fields.next_value()?,
                        "quantity" => record.quantity = fields.next_value()?,
                        "product_quantity" => record.product_quantity = fields.next_value()?,
                        "product_quantity_unit" => record.product_quantity_unit = fields.next_value()?,
                        "image_url" => record.image_url = fields.next_value()?,
                        "image_front_url" if record.image_url == Loose::Nothing => {
                            record.image_url = fields.next_value()?;
                        }
                        "images" => record.images = fields.next_value::<LooseObject<_>>()?.0,
                        "nutriments" => record.nutriments = fields.next_value::<LooseObject<_>>()?.0,
                        "nutrition" => record.nutrition = fields.next_value::<LooseObject<_>>()?.0,
                        "nutrient_levels" => record.nutrient_levels = fields.next_value::<LooseObject<_>>()?.0,
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
                        let rev = photos.next_value::<LooseObject<Image>>()?.0.rev;
                        images.note(&name, rev);
                    } else if name == "selected" {
                        let front = photos.next_value::<LooseObject<Selected>>()?.0.front.0;
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
    /// Reads one line of an export. Bytes that are no UTF-8 and halves of surrogate pairs become replacement
    /// characters, and control characters blanks: they spoil the text they are in, not the record.
    pub fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        let text = String::from_utf8_lossy(line);
        let mut record = serde_json::from_str(&text).or_else(|error| Self::read_mended(&text).ok_or(error))?;
        if let Cow::Owned(_) = text {
            record.mends.add(Mend::BrokenUtf8);
        }
        Ok(record)
    }

    /// Reads a line that is no JSON as it stands.
    fn read_mended(text: &str) -> Option<Self> {
        let (mut mended, mut mends) = (Cow::Borrowed(text), Mends::default());
        for mend in [Mend::HalfSurrogate, Mend::ControlCharacters, Mend::AbsurdNumber] {
            let better = match mend {
                Mend::HalfSurrogate => pair_surrogates(&mended),
                Mend::ControlCharacters => blank_controls(&mended),
                _ => without_infinities(&mended),
            };
            let Some(better) = better else { continue };
            mends.add(mend);
            if let Ok(record) = serde_json::from_str(&better) {
                return Some(Self { mends, ..record });
            }
            mended = Cow::Owned(better);
        }
        None
    }
}

/// `text` with every `\ud83d` that has no other half replaced by `\ufffd`; `None` when there is none.
fn pair_surrogates(text: &str) -> Option<String> {
    let unit = |at: usize| -> Option<u16> {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut mended, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                mended.push_str(&text[copied..at]);
                mended.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
            // Another escape: its second character, which may be a backslash, starts nothing.
            None => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    mended.push_str(&text[copied..]);
    (copied > 0).then_some(mended)
}

/// `text` with a blank for each control character, which JSON allows nowhere but between its tokens; `None` when there is none.
fn blank_controls(text: &str) -> Option<String> {
    text.contains(|c: char| c.is_ascii_control()).then(|| text.replace(|c: char| c.is_ascii_control(), " "))
}

/// `text` with `null` for each number that is larger than any float; `None` when there is none.
fn without_infinities(text: &str) -> Option<String> {
    let (mut mended, mut copied, mut at, mut is_within) = (String::new(), 0, 0, false);
    let is_number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    while let Some(&byte) = text.as_bytes().get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => is_within = !is_within,
            b'-' | b'0'..=b'9' if !is_within => {
                let length = text.bytes().skip(at).take_while(|&byte| is_number(byte)).count();
                if text[at..at + length].parse().is_ok_and(f64::is_infinite) {
                    mended.push_str(&text[copied..at]);
                    mended.push_str("null");
                    copied = at + length;
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    mended.push_str(&text[copied..]);
    (copied > 0).then_some(mended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_that_is_too_large_costs_its_field_only() {
        let line = br#"{"product_name": "1e999 \" 2e999", "quantity": -1e999, "nova_group": 1E+400, "code": "1"}"#;
        let record = Record::read(line).unwrap();
        assert_eq!(record.product_name.text().as_deref(), Some("1e999 \" 2e999"));
        assert_eq!((record.quantity, record.nova_group), (Loose::Nothing, Loose::Nothing));
        assert_eq!(record.mends.iter().collect::<Vec<_>>(), [Mend::AbsurdNumber]);
    }

    #[test]
    fn a_type_that_is_wrong_costs_its_field_only() {
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
    fn half_a_surrogate_pair_costs_a_character_only() {
        let record = Record::read(br#"{"product_name": "a\ud83d b\ud83d\ude00 \\ud83d", "code": "1"}"#).unwrap();
        assert_eq!(record.product_name.text().as_deref(), Some("a\u{fffd} b\u{1f600} \\ud83d"));
    }

    #[test]
    fn a_control_character_costs_itself_only() {
        let record = Record::read(b"{\"product_name\": \"a\0b\\ud83d\x01\",\t\"code\": \"1\"}\r").unwrap();
        assert_eq!(record.product_name.text().as_deref(), Some("a b\u{fffd} "));
        assert_eq!(record.mends.iter().collect::<Vec<_>>(), [Mend::HalfSurrogate, Mend::ControlCharacters]);
        assert!(Record::read(b"{\"product_name\": \"a\0b\"").is_err());
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::read(&line);
        }

        #[test]
        fn no_escape_makes_it_panic(text in "[\\\\ud8c0def\"é]{0,40}") {
            let _ = Record::read(format!("{{\"product_name\": \"{text}\"}}").as_bytes());
        }
    }
}
