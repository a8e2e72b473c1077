//! Reads the Parquet export, and only the columns that are needed.

mod footer;
mod view;

pub(super) use footer::MAGIC;

use super::{Broken, Chunk, Content, Place};
use crate::{lenient::Lenient, record::Record};
use ::parquet::{
    basic::Compression,
    errors::ParquetError,
    file::{
        metadata::{ParquetStatisticsPolicy, RowGroupMetaData},
        reader::FileReader,
        serialized_reader::{ReadOptionsBuilder, SerializedFileReader},
    },
    record::{Field, Row},
    schema::types::Type,
};
use footer::{Footer, GroupPlace};
use std::{
    fs::File,
    io,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};
use view::View;

/// Records per part of a row group.
const ROWS: usize = 256;

/// The columns that are read, together with `TIMES`.
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
const TIMES: [&str; 2] = ["last_modified_t", "last_updated_t"];

/// Larger times are nanoseconds: it is the year 1973 in nanoseconds, and the year 5138 in microseconds.
const MIN_NANOSECONDS: i64 = 100_000_000_000_000_000;

/// The parts of each photo and each nutrient that are read.
const PARTS: [(&str, &[&str]); 2] = [("images", &["key", "rev"]), ("nutriments", &["name", "100g", "serving"])];

/// A row group, or the rest of it that an earlier import has not read.
#[derive(Debug)]
pub(crate) struct Group {
    file: Arc<File>,
    footer: Arc<Footer>,
    place: GroupPlace,
    /// Rows that an earlier import has read.
    done: u64,
}

/// Passes every row group from `start` on to `emit`, until they end or `emit` returns false. Calls `on_rows` with the
/// number of rows before each group and the number of all rows.
pub(super) fn cut(
    file: File,
    start: Place,
    on_rows: impl Fn(u64, u64),
    mut emit: impl FnMut(Chunk) -> bool,
) -> io::Result<()> {
    let footer = Arc::new(Footer::read(&file)?);
    let file = Arc::new(file);
    let all = footer.groups.iter().fold(0, |all: u64, group| all.saturating_add(group.rows));
    let mut before = 0;
    for &place in &footer.groups {
        on_rows(before, all);
        let after = before.saturating_add(place.rows);
        // A group that an earlier import has read is not opened.
        if after > start.offset {
            let begin = start.offset.max(before);
            let group = Group { file: file.clone(), footer: footer.clone(), place, done: begin - before };
            let at = |row: u64| Place { offset: row, line: row };
            if !emit(Chunk { start: at(begin), end: at(after), content: Content::Group(group) }) {
                return Ok(());
            }
        }
        before = after;
    }
    on_rows(all, all);
    Ok(())
}

/// Why an undamaged file cannot be read: it has no barcodes, or its compression is not compiled in. Damage is reported
/// later, where it is found.
pub(super) fn unreadable(file: &File) -> Option<String> {
    let file = Arc::new(file.try_clone().ok()?);
    let footer = Footer::read(&file).ok()?;
    let view = View::of(&file, &footer, *footer.groups.first()?).ok()?;
    let reader = panic::catch_unwind(AssertUnwindSafe(|| SerializedFileReader::new(view))).ok()?.ok()?;
    let metadata = reader.metadata();
    if !metadata.file_metadata().schema().get_fields().iter().any(|column| column.name() == "code") {
        return Some("it is Parquet without a column `code`".to_owned());
    }
    let columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let mut read = columns.filter(|column| column.column_path().parts().first().is_some_and(|name| is_read(name)));
    let codec = read.find_map(|column| match column.compression() {
        Compression::BROTLI(_) => Some("Brotli"),
        Compression::LZO => Some("LZO"),
        _ => None,
    })?;
    Some(format!(
        "it is Parquet compressed with {codec}, which is not supported: compress it in another way, such as zstd"
    ))
}

impl Group {
    /// Passes its records to `emit` in parts of `ROWS`, until they end or `emit` returns false. Fails with the
    /// approximate place of damage.
    pub(crate) fn read(&self, emit: impl FnMut(Vec<Record>) -> bool) -> Result<(), Broken> {
        let mut near = self.place.start;
        let read = AssertUnwindSafe(|| self.read_rows(&mut near, emit));
        // The reader of `parquet` does not check everything, and may panic on a damaged file.
        let outcome =
            panic::catch_unwind(read).unwrap_or_else(|_| Err(ParquetError::General("it is corrupt".to_owned())));
        outcome.map_err(|error| Broken { byte: near, cause: io::Error::other(error) })
    }

    fn read_rows(&self, near: &mut u64, mut emit: impl FnMut(Vec<Record>) -> bool) -> Result<(), ParquetError> {
        // Statistics are not used.
        let options = ReadOptionsBuilder::new()
            .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .build();
        let view = View::of(&self.file, &self.footer, self.place)?;
        let reader = SerializedFileReader::new_with_options(view, options)?;
        let metadata = reader.metadata();
        let pages = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
        *near = pages.filter_map(|column| column.data_page_offset().try_into().ok()).min().unwrap_or(*near);
        let wanted = projection(metadata.file_metadata().schema());
        let (mut records, mut read) = (Vec::with_capacity(ROWS), 0);
        for row in reader.get_row_iter(Some(wanted))? {
            let row = row?;
            read += 1;
            if read > self.done {
                records.push(record(&row));
            }
            if records.len() == ROWS && !emit(std::mem::replace(&mut records, Vec::with_capacity(ROWS))) {
                return Ok(());
            }
        }
        if !records.is_empty() {
            emit(records);
        }
        if read != self.place.rows {
            let missing = format!("a row group has {read} rows and should have {}", self.place.rows);
            return Err(ParquetError::General(missing));
        }
        Ok(())
    }
}

fn is_read(column: &str) -> bool {
    COLUMNS.contains(&column) || TIMES.contains(&column)
}

/// The file's schema with only the columns and parts that are needed.
fn projection(schema: &Type) -> Type {
    let wanted = schema
        .get_fields()
        .iter()
        .filter(|column| is_read(column.name()))
        .map(|column| match PARTS.iter().find(|(name, _)| *name == column.name()) {
            Some((_, parts)) => Arc::new(only(column, parts)),
            None => column.clone(),
        })
        .collect();
    // Building cannot fail: names and repetitions come from a schema that was read.
    Type::group_type_builder(schema.name()).with_fields(wanted).build().unwrap_or_else(|_| schema.clone())
}

/// The schema of a list of groups, with only these parts of each group.
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
