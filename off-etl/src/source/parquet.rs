//! The Parquet export: only the columns that are needed are read.

use super::{Content, Piece, Place};
use crate::{loose::Loose, record::Record};
use ::parquet::{
    file::reader::{ChunkReader, FileReader, SerializedFileReader},
    record::{Field, List, Row},
    schema::types::Type,
};
use std::{io, sync::Arc};

/// Rows in a piece.
const ROWS: usize = 200;

/// The columns that are read.
const COLUMNS: [&str; 19] = [
    "code",
    "product_name",
    "generic_name",
    "lang",
    "quantity",
    "product_quantity",
    "product_quantity_unit",
    "images",
    "nutriments",
    "nutrient_levels_tags",
    "nova_group",
    "nutriscore_score",
    "nutriscore_grade",
    "brands_tags",
    "brands",
    "categories_tags",
    "countries_tags",
    "states_tags",
    "obsolete",
];
const CHANGED: &str = "last_modified_t";

/// Of each photo and each nutrient, what is read.
const PARTS: [(&str, &[&str]); 2] = [("images", &["key", "rev"]), ("nutriments", &["name", "100g", "serving"])];

/// Gives every piece from `start` on, until there are no more or nobody takes them; `on_group` is told how many row groups of
/// how many are read.
pub(super) fn cut(
    file: impl ChunkReader + 'static,
    start: Place,
    mut on_group: impl FnMut(usize, usize),
    mut give: impl FnMut(Piece) -> bool,
) -> io::Result<()> {
    let reader = SerializedFileReader::new(file).map_err(io::Error::other)?;
    let wanted = projection(reader.metadata().file_metadata().schema());
    let (mut place, mut before) = (start, 0);
    let groups = reader.num_row_groups();
    for group in 0..groups {
        let group_reader = reader.get_row_group(group).map_err(io::Error::other)?;
        let rows = u64::try_from(group_reader.metadata().num_rows()).unwrap_or(0);
        // A group that was read before is not even opened.
        if before + rows <= start.offset {
            before += rows;
            continue;
        }
        let done = usize::try_from(start.offset.saturating_sub(before)).unwrap_or(usize::MAX);
        let mut piece = Vec::with_capacity(ROWS);
        let mut rows_of_group =
            group_reader.get_row_iter(Some(wanted.clone())).map_err(io::Error::other)?.skip(done).peekable();
        while let Some(row) = rows_of_group.next() {
            piece.push(record(&row.map_err(io::Error::other)?));
            if piece.len() == ROWS || rows_of_group.peek().is_none() {
                let read = place.offset + piece.len() as u64;
                let end = Place { offset: read, line: read };
                if !give(Piece { start: place, end, content: Content::Records(std::mem::take(&mut piece)) }) {
                    return Ok(());
                }
                place = end;
            }
        }
        before += rows;
        on_group(group + 1, groups);
    }
    Ok(())
}

/// The file's own schema, without what is not needed.
fn projection(schema: &Type) -> Type {
    let wanted = schema
        .get_fields()
        .iter()
        .filter(|column| COLUMNS.contains(&column.name()) || column.name() == CHANGED)
        .map(|column| match PARTS.iter().find(|(name, _)| *name == column.name()) {
            Some((_, parts)) => Arc::new(only(column, parts)),
            None => column.clone(),
        })
        .collect();
    // Names and repetitions are those of a schema that was read: nothing in it can be refused.
    Type::group_type_builder(schema.name()).with_fields(wanted).build().unwrap_or_else(|_| schema.clone())
}

/// A list of groups, with these parts of each group alone.
fn only(column: &Type, parts: &[&str]) -> Type {
    if !column.is_group() {
        return column.clone();
    }
    let is_innermost = column.get_fields().iter().any(|field| parts.contains(&field.name()));
    let fields = column
        .get_fields()
        .iter()
        .filter(|field| !is_innermost || parts.contains(&field.name()))
        .map(|field| if is_innermost { field.clone() } else { Arc::new(only(field, parts)) })
        .collect();
    let info = column.get_basic_info();
    let mut group = Type::group_type_builder(column.name())
        .with_fields(fields)
        .with_converted_type(info.converted_type())
        .with_logical_type(info.logical_type_ref().cloned());
    if info.has_repetition() {
        group = group.with_repetition(info.repetition());
    }
    group.build().unwrap_or_else(|_| column.clone())
}

fn record(row: &Row) -> Record {
    let mut record = Record::default();
    for (name, field) in row.get_column_iter() {
        match name.as_str() {
            "code" => record.code = loose(field),
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
            "lang" => record.lang = loose(field),
            "quantity" => record.quantity = loose(field),
            // Text in the file, whatever it was before.
            "product_quantity" => record.product_quantity = number(field),
            "product_quantity_unit" => record.product_quantity_unit = loose(field),
            "images" => {
                for (key, rev) in named(field, "key", "rev") {
                    if let Some(language) = key.strip_prefix("front_") {
                        record.images.front.insert(language.to_owned(), rev);
                    }
                }
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
            "nutrient_levels_tags" => record.nutrient_levels_tags = loose(field),
            "nova_group" => record.nova_group = loose(field),
            "nutriscore_score" => record.nutriscore_score = loose(field),
            "nutriscore_grade" => record.nutriscore_grade = loose(field),
            "brands_tags" => record.brands_tags = loose(field),
            "brands" => record.brands = loose(field),
            "categories_tags" => record.categories_tags = loose(field),
            "countries_tags" => record.countries_tags = loose(field),
            "states_tags" => record.states_tags = loose(field),
            "obsolete" => record.obsolete = loose(field),
            CHANGED => record.last_modified_t = loose(field),
            _ => {}
        }
    }
    record
}

fn loose(field: &Field) -> Loose {
    match field {
        Field::Str(text) => Loose::Text(text.clone()),
        Field::Bytes(bytes) => Loose::Text(String::from_utf8_lossy(bytes.data()).into_owned()),
        Field::Byte(number) => Loose::Number(f64::from(*number)),
        Field::Short(number) => Loose::Number(f64::from(*number)),
        Field::Int(number) => Loose::Number(f64::from(*number)),
        Field::Long(number) => u64::try_from(*number).map_or(Loose::Number(*number as f64), Loose::Whole),
        Field::Float(number) => Loose::Number(written(*number)),
        Field::Double(number) => Loose::Number(*number),
        Field::Bool(true) => Loose::Yes,
        Field::ListInternal(list) => Loose::List(list.elements().iter().map(loose).collect()),
        _ => Loose::Nothing,
    }
}

/// The shortest number that is written as this one is: 0.1 is not 0.10000000149011612.
fn written(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

fn number(field: &Field) -> Loose {
    match loose(field) {
        Loose::Text(text) => text.trim().parse().map_or(Loose::Text(text), Loose::Number),
        other => other,
    }
}

/// What a list of groups says of each name.
fn named(field: &Field, name: &str, value: &str) -> impl Iterator<Item = (String, Loose)> {
    let list: &[Field] = match field {
        Field::ListInternal(list) => elements(list),
        _ => &[],
    };
    list.iter().filter_map(move |group| {
        let Field::Group(group) = group else { return None };
        let part =
            |wanted: &str| group.get_column_iter().find(|(name, _)| *name == wanted).map(|(_, field)| loose(field));
        Some((part(name)?.text()?, part(value)?))
    })
}

fn elements(list: &List) -> &[Field] {
    list.elements()
}
