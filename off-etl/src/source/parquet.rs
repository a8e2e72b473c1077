//! The Parquet export: only the columns that are needed are read.

mod footer;
mod view;

pub(super) use footer::MAGIC;

use super::{Broken, Content, Piece, Place};
use crate::{loose::Loose, record::Record};
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

/// Records that are given at once.
const ROWS: usize = 256;

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
const TIMES: [&str; 2] = ["last_modified_t", "last_updated_t"];

/// The year 1973 in nanoseconds; in microseconds it is the year 5138.
const EARLIEST_NANOSECOND: i64 = 100_000_000_000_000_000;

/// Of each photo and each nutrient, what is read.
const PARTS: [(&str, &[&str]); 2] = [("images", &["key", "rev"]), ("nutriments", &["name", "100g", "serving"])];

/// A row group, or what of it was not read before.
#[derive(Debug)]
pub(crate) struct Group {
    file: Arc<File>,
    footer: Arc<Footer>,
    place: GroupPlace,
    /// Rows of it that were read before.
    done: u64,
}

/// Gives every row group from `start` on, until there are no more or nobody takes them; `on_rows` is told how many rows of how many
/// come before each.
pub(super) fn cut(
    file: File,
    start: Place,
    on_rows: impl Fn(u64, u64),
    mut give: impl FnMut(Piece) -> bool,
) -> io::Result<()> {
    let footer = Arc::new(Footer::read(&file)?);
    let file = Arc::new(file);
    let all = footer.groups.iter().fold(0, |all: u64, group| all.saturating_add(group.rows));
    let mut before = 0;
    for &place in &footer.groups {
        on_rows(before, all);
        let after = before.saturating_add(place.rows);
        // A group that was read before is not even opened.
        if after > start.offset {
            let begin = start.offset.max(before);
            let group = Group { file: file.clone(), footer: footer.clone(), place, done: begin - before };
            let at = |row: u64| Place { offset: row, line: row };
            if !give(Piece { start: at(begin), end: at(after), content: Content::Group(group) }) {
                return Ok(());
            }
        }
        before = after;
    }
    on_rows(all, all);
    Ok(())
}

/// Why nothing of a file can be read that is sound: it has no barcodes, or is packed in a way that is not compiled in. Damage is told
/// where it is met.
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
        "it is Parquet packed with {codec}, which is not read: write it anew with another compression, like zstd"
    ))
}

impl Group {
    /// Gives its records, some hundred at once, until there are no more or nobody takes them. What is broken is told with about where.
    pub(crate) fn read(&self, give: impl FnMut(Vec<Record>) -> bool) -> Result<(), Broken> {
        let mut near = self.place.start;
        let read = AssertUnwindSafe(|| self.read_rows(&mut near, give));
        // The reader checks less than what a damaged file may hold.
        let outcome =
            panic::catch_unwind(read).unwrap_or_else(|_| Err(ParquetError::General("it is garbled".to_owned())));
        outcome.map_err(|error| Broken { byte: near, cause: io::Error::other(error) })
    }

    fn read_rows(&self, near: &mut u64, mut give: impl FnMut(Vec<Record>) -> bool) -> Result<(), ParquetError> {
        // Nothing is chosen by what the file says of its columns' contents.
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
            if records.len() == ROWS && !give(std::mem::replace(&mut records, Vec::with_capacity(ROWS))) {
                return Ok(());
            }
        }
        if !records.is_empty() {
            give(records);
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

/// The file's own schema, without what is not needed.
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
            // Older exports have one text, newer ones a list by language.
            "product_name" if matches!(field, Field::Str(_)) => record.product_name = loose(field),
            "generic_name" if matches!(field, Field::Str(_)) => record.generic_name = loose(field),
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
                named(field, "key", "rev").for_each(|(key, rev)| record.images.note(&key, rev));
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
            "last_modified_t" => record.last_modified_t = time(field),
            "last_updated_t" => record.last_updated_t = time(field),
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

/// Seconds, also where some tool made a timestamp of them.
fn time(field: &Field) -> Loose {
    let seconds = match field {
        Field::TimestampMillis(time) => time / 1000,
        Field::TimestampMicros(time) => time / 1_000_000,
        // Nanoseconds are not told from other numbers; as seconds they would be far beyond any time.
        Field::Long(time) if *time > EARLIEST_NANOSECOND => time / 1_000_000_000,
        other => return loose(other),
    };
    u64::try_from(seconds).map_or(Loose::Nothing, Loose::Whole)
}

/// What a list of groups says of each name.
fn named(field: &Field, name: &str, value: &str) -> impl Iterator<Item = (String, Loose)> {
    let list: &[Field] = match field {
        Field::ListInternal(list) => list.elements(),
        _ => &[],
    };
    list.iter().filter_map(move |group| {
        let Field::Group(group) = group else { return None };
        let part =
            |wanted: &str| group.get_column_iter().find(|(name, _)| *name == wanted).map(|(_, field)| loose(field));
        Some((part(name)?.text()?, part(value)?))
    })
}
