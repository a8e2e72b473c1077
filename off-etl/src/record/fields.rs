//! The fields of a record, by name.

use super::Record;
use crate::lenient::{Lenient, LenientObject};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use std::{borrow::Cow, fmt};

impl Record {
    /// The field with this name, if its value is text, a number or a list.
    pub(crate) fn field_mut(&mut self, name: &str) -> Option<&mut Lenient> {
        Some(match name {
            "code" => &mut self.code,
            "product_name" => &mut self.product_name,
            "generic_name" => &mut self.generic_name,
            "lang" => &mut self.lang,
            "quantity" => &mut self.quantity,
            "product_quantity" => &mut self.product_quantity,
            "product_quantity_unit" => &mut self.product_quantity_unit,
            "image_url" => &mut self.image_url,
            "nutrient_levels_tags" => &mut self.nutrient_levels_tags,
            "nova_group" => &mut self.nova_group,
            "nutriscore_score" => &mut self.nutriscore_score,
            "nutriscore_grade" => &mut self.nutriscore_grade,
            "brands" => &mut self.brands,
            "brands_tags" => &mut self.brands_tags,
            "categories_tags" => &mut self.categories_tags,
            "countries_tags" => &mut self.countries_tags,
            "states_tags" => &mut self.states_tags,
            "obsolete" => &mut self.obsolete,
            "last_modified_t" => &mut self.last_modified_t,
            "last_updated_t" => &mut self.last_updated_t,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a product record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Record, A::Error> {
        let mut record = Record::default();
        while let Some(name) = fields.next_key::<Cow<'_, str>>()? {
            if let Some(field) = record.field_mut(&name) {
                *field = fields.next_value()?;
                continue;
            }
            match name.as_ref() {
                // Some records in old dumps have no `code`.
                "_id" if record.code == Lenient::Nothing => record.code = fields.next_value()?,
                "image_front_url" if record.image_url == Lenient::Nothing => record.image_url = fields.next_value()?,
                "images" => record.images = fields.next_value::<LenientObject<_>>()?.0,
                "nutriments" => record.nutriments = fields.next_value::<LenientObject<_>>()?.0,
                "nutrition" => record.nutrition = fields.next_value::<LenientObject<_>>()?.0,
                "nutrient_levels" => record.nutrient_levels = fields.next_value::<LenientObject<_>>()?.0,
                name => match language_of_name(name) {
                    Some(language) => drop(record.names.insert(language.to_owned(), fields.next_value()?)),
                    None => drop(fields.next_value::<IgnoredAny>()?),
                },
            }
        }
        Ok(record)
    }
}

/// The language of a field such as `product_name_fr`.
fn language_of_name(field: &str) -> Option<&str> {
    field.strip_prefix("product_name_").filter(|language| language.len() == 2)
}
