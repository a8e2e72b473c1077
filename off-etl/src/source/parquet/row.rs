//! Rows of Parquet as records and as prices.

use crate::{lenient::Lenient, prices::PriceRecord, record::Record};
use ::parquet::record::{Field, Row};
use chrono::{DateTime, NaiveDate};

/// Larger times are nanoseconds: it is the year 1973 in nanoseconds, and the year 5138 in microseconds.
const MIN_NANOSECONDS: i64 = 100_000_000_000_000_000;

/// The record in a row.
pub(super) fn record(row: &Row) -> Record {
    let mut record = Record::default();
    for (name, field) in row.get_column_iter() {
        match name.as_str() {
            // Older exports have one text, newer ones a list with a text per language.
            "product_name" if !matches!(field, Field::Str(_)) => set_names(&mut record, field),
            "generic_name" if !matches!(field, Field::Str(_)) => {
                let found = named(field, "lang", "text").find(|(language, _)| language == "main");
                record.generic_name = found.map(|(_, text)| text).unwrap_or_default();
            }
            // The file has it as text, also if the record has a number.
            "product_quantity" => record.product_quantity = lenient(field).parsed(),
            "images" => named(field, "key", "rev").for_each(|(key, rev)| record.images.set_revision(&key, rev)),
            "nutriments" => set_energy(&mut record, field),
            "last_modified_t" => record.last_modified_t = time(field),
            "last_updated_t" => record.last_updated_t = time(field),
            name => {
                if let Some(value) = record.field_mut(name) {
                    *value = lenient(field);
                }
            }
        }
    }
    record
}

/// The price in a row.
pub(super) fn price(row: &Row) -> PriceRecord {
    let mut record = PriceRecord::default();
    for (name, field) in row.get_column_iter() {
        match name.as_str() {
            "product_code" => record.product_code = lenient(field),
            "price" => record.price = written_price(field),
            "currency" => record.currency = lenient(field),
            "date" => record.date = day(field),
            "price_is_discounted" => record.price_is_discounted = lenient(field),
            _ => {}
        }
    }
    record
}

/// The digits of a decimal number, or the shortest ones that stand for a float.
fn written_price(field: &Field) -> String {
    match field {
        Field::Decimal(_) => field.to_string(),
        other => lenient(other).text().unwrap_or_default(),
    }
}

/// The day of a date or of a timestamp, as text.
fn day(field: &Field) -> Lenient {
    let day = match field {
        Field::Date(days) => NaiveDate::from_epoch_days(*days),
        Field::TimestampMillis(time) => DateTime::from_timestamp_millis(*time).map(|time| time.date_naive()),
        Field::TimestampMicros(time) => DateTime::from_timestamp_micros(*time).map(|time| time.date_naive()),
        // Nanoseconds have no type of their own here.
        Field::Long(time) if *time > MIN_NANOSECONDS => Some(DateTime::from_timestamp_nanos(*time).date_naive()),
        other => return lenient(other),
    };
    day.map_or(Lenient::Nothing, |day| Lenient::Text(day.to_string()))
}

/// Reads the names in all languages.
fn set_names(record: &mut Record, names: &Field) {
    for (language, text) in named(names, "lang", "text") {
        match language.as_str() {
            "main" => record.product_name = text,
            _ => drop(record.names.insert(language, text)),
        }
    }
}

/// Reads the energy from a list of nutrients.
fn set_energy(record: &mut Record, nutriments: &Field) {
    let energy = &mut record.nutriments;
    for (nutrient, value) in named(nutriments, "name", "100g") {
        match nutrient.as_str() {
            "energy-kcal" => energy.kcal_100g = value,
            "energy-kj" => energy.kj_100g = value,
            _ => {}
        }
    }
    for (nutrient, value) in named(nutriments, "name", "serving") {
        match nutrient.as_str() {
            "energy-kcal" => energy.kcal_serving = value,
            "energy-kj" => energy.kj_serving = value,
            _ => {}
        }
    }
}

/// The value of a field, whatever its type.
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

/// Converts through the shortest decimal text: 0.1 stays 0.1 and does not become 0.10000000149011612.
fn written(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
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
