//! Rows of Parquet as records.

use crate::{lenient::Lenient, record::Record};
use ::parquet::record::{Field, Row};

/// Larger times are nanoseconds: it is the year 1973 in nanoseconds, and the year 5138 in microseconds.
const MIN_NANOSECONDS: i64 = 100_000_000_000_000_000;

/// The record in a row.
pub(super) fn record(row: &Row) -> Record {
    let mut record = Record::default();
    for (name, field) in row.get_column_iter() {
        match name.as_str() {
            "code" => record.code = lenient(field),
            // Older exports have one text, newer ones a list with a text per language.
            "product_name" if matches!(field, Field::Str(_)) => record.product_name = lenient(field),
            "generic_name" if matches!(field, Field::Str(_)) => record.generic_name = lenient(field),
            "product_name" => {
                for (language, text) in named(field, "lang", "text") {
                    match language.as_str() {
                        "main" => record.product_name = text,
                        _ => drop(record.names.insert(language, text)),
                    }
                }
            }
            "generic_name" => {
                let found = named(field, "lang", "text").find(|(language, _)| language == "main");
                record.generic_name = found.map(|(_, text)| text).unwrap_or_default();
            }
            "lang" => record.lang = lenient(field),
            "quantity" => record.quantity = lenient(field),
            // The file has it as text, also if the record has a number.
            "product_quantity" => record.product_quantity = number(field),
            "product_quantity_unit" => record.product_quantity_unit = lenient(field),
            "images" => {
                named(field, "key", "rev").for_each(|(key, rev)| record.images.set_revision(&key, rev));
            }
            "nutriments" => {
                let nutriments = &mut record.nutriments;
                for (nutrient, value) in named(field, "name", "100g") {
                    match nutrient.as_str() {
                        "energy-kcal" => nutriments.kcal_100g = value,
                        "energy-kj" => nutriments.kj_100g = value,
                        _ => {}
                    }
                }
                for (nutrient, value) in named(field, "name", "serving") {
                    match nutrient.as_str() {
                        "energy-kcal" => nutriments.kcal_serving = value,
                        "energy-kj" => nutriments.kj_serving = value,
                        _ => {}
                    }
                }
            }
            "nutrient_levels_tags" => record.nutrient_levels_tags = lenient(field),
            "nova_group" => record.nova_group = lenient(field),
            "nutriscore_score" => record.nutriscore_score = lenient(field),
            "nutriscore_grade" => record.nutriscore_grade = lenient(field),
            "brands_tags" => record.brands_tags = lenient(field),
            "brands" => record.brands = lenient(field),
            "categories_tags" => record.categories_tags = lenient(field),
            "countries_tags" => record.countries_tags = lenient(field),
            "states_tags" => record.states_tags = lenient(field),
            "obsolete" => record.obsolete = lenient(field),
            "last_modified_t" => record.last_modified_t = time(field),
            "last_updated_t" => record.last_updated_t = time(field),
            _ => {}
        }
    }
    record
}

fn lenient(field: &Field) -> Lenient {
    match field {
        Field::Str(text) => Lenient::Text(text.clone()),
        Field::Bytes(bytes) => Lenient::Text(String::from_utf8_lossy(bytes.data()).into_owned()),
        Field::Byte(number) => Lenient::Number(f64::from(*number)),
        Field::Short(number) => Lenient::Number(f64::from(*number)),
        Field::Int(number) => Lenient::Number(f64::from(*number)),
        Field::Long(number) => u64::try_from(*number).map_or(Lenient::Number(*number as f64), Lenient::Whole),
        Field::Float(number) => Lenient::Number(written(*number)),
        Field::Double(number) => Lenient::Number(*number),
        Field::Bool(true) => Lenient::Yes,
        Field::ListInternal(list) => Lenient::List(list.elements().iter().map(lenient).collect()),
        _ => Lenient::Nothing,
    }
}

/// Converts by way of the shortest decimal text: 0.1 stays 0.1 and does not become 0.10000000149011612.
fn written(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

/// Reads a number, also from text.
fn number(field: &Field) -> Lenient {
    match lenient(field) {
        Lenient::Text(text) => text.trim().parse().map_or(Lenient::Text(text), Lenient::Number),
        other => other,
    }
}

/// UNIX time in seconds, also from a timestamp that some tool made of it.
fn time(field: &Field) -> Lenient {
    let seconds = match field {
        Field::TimestampMillis(time) => time / 1000,
        Field::TimestampMicros(time) => time / 1_000_000,
        // Nanoseconds have no type of their own here; as seconds they would be implausibly large.
        Field::Long(time) if *time > MIN_NANOSECONDS => time / 1_000_000_000,
        other => return lenient(other),
    };
    u64::try_from(seconds).map_or(Lenient::Nothing, Lenient::Whole)
}

/// Reads a list of groups as pairs of a name and a value.
fn named(field: &Field, name: &str, value: &str) -> impl Iterator<Item = (String, Lenient)> {
    let list: &[Field] = match field {
        Field::ListInternal(list) => list.elements(),
        _ => &[],
    };
    list.iter().filter_map(move |group| {
        let Field::Group(group) = group else { return None };
        let part =
            |wanted: &str| group.get_column_iter().find(|(name, _)| *name == wanted).map(|(_, field)| lenient(field));
        Some((part(name)?.text()?, part(value)?))
    })
}
