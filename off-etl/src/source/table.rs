//! Tab-separated tables: the bulk export, in which quotation marks are data, and the website's export, in which they
//! quote fields.

use super::{Place, boundaries::Boundaries};
use crate::{
    correction::{Correction, Corrections},
    lenient::Lenient,
    record::Record,
    reject::RejectReason,
};
use ::csv::{ByteRecord, ReaderBuilder, Terminator};
use std::{
    borrow::Cow,
    io::{self, BufRead, Read},
    sync::Arc,
};

/// Length of a header that is read, in bytes.
const MAX_HEADER_SIZE: u64 = 1024 * 1024;

/// Prefixes of columns that only the website's export has. Its fields may be quoted and then may contain line feeds.
const WEBSITE_COLUMN_PREFIXES: [&str; 3] = ["producer_", "off:", "sources_fields:"];

/// Stores the value of a column in a record.
type Setter = fn(&mut Record, Lenient);

/// The columns that are read. If two set the same field, the later one wins unless it is empty.
const COLUMNS: [(&str, Setter); 28] = [
    ("code", |record, value| record.code = value),
    ("product_name", |record, value| record.product_name = value),
    ("generic_name", |record, value| record.generic_name = value),
    ("lc", |record, value| record.lang = value),
    ("lang", |record, value| record.lang = value),
    ("quantity", |record, value| record.quantity = value),
    ("product_quantity", |record, value| record.product_quantity = value.parsed()),
    ("product_quantity_unit", |record, value| record.product_quantity_unit = value),
    ("image_front_url", |record, value| record.image_url = value),
    ("image_url", |record, value| record.image_url = value),
    ("energy-kcal_100g", |record, value| record.nutriments.kcal_100g = value.parsed()),
    ("energy-kcal_serving", |record, value| record.nutriments.kcal_serving = value.parsed()),
    ("energy-kj_100g", |record, value| record.nutriments.kj_100g = value.parsed()),
    ("energy-kj_serving", |record, value| record.nutriments.kj_serving = value.parsed()),
    ("nutrient_levels_tags", |record, value| record.nutrient_levels_tags = value),
    ("nova_group", |record, value| record.nova_group = value.parsed()),
    ("nutriscore_score", |record, value| record.nutriscore_score = value.parsed()),
    ("nutriscore_grade", |record, value| record.nutriscore_grade = value),
    ("brands", |record, value| record.brands = value),
    ("brands_tags", |record, value| record.brands_tags = value),
    ("categories_tags", |record, value| record.categories_tags = value),
    ("countries", |record, value| record.countries_tags = value),
    ("countries_tags", |record, value| record.countries_tags = value),
    ("states", |record, value| record.states_tags = value),
    ("states_tags", |record, value| record.states_tags = value),
    ("obsolete", |record, value| record.obsolete = value),
    ("last_modified_t", |record, value| record.last_modified_t = value.parsed()),
    ("last_updated_t", |record, value| record.last_updated_t = value.parsed()),
];

/// The columns of a table and its dialect.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// The columns that are read, by position from 0.
    columns: Vec<(usize, Setter)>,
    /// `product_name_fr` and the like, by language.
    names: Vec<(usize, String)>,
    /// Number of all columns.
    count: usize,
    /// Whether fields may be quoted, as in the website's export.
    is_quoted: bool,
}

impl Header {
    /// Reads the first line of a table that is not blank. Returns it with the place after it.
    pub(super) fn read(table: &mut impl BufRead) -> io::Result<(Self, Place)> {
        let mut end = Place::default();
        loop {
            let mut line = Vec::new();
            let read = Read::by_ref(table).take(MAX_HEADER_SIZE).read_until(b'\n', &mut line)?;
            end = Place { offset: end.offset + read as u64, line: end.line + 1 };
            if read == 0 || !line.trim_ascii().is_empty() {
                return Ok((Self::of(&line), end));
            }
        }
    }

    /// Parses `line`, the first line of a table.
    fn of(line: &[u8]) -> Self {
        let columns: Vec<Cow<'_, str>> = names(line).map(String::from_utf8_lossy).collect();
        // Of two columns with the same name the first counts.
        let place = |name: &str| columns.iter().position(|column| column == name);
        let language =
            |column: &str| column.strip_prefix("product_name_").filter(|name| name.len() == 2).map(str::to_owned);
        Self {
            columns: COLUMNS.iter().filter_map(|(name, set)| Some((place(name)?, *set))).collect(),
            names: columns.iter().enumerate().filter_map(|(place, column)| Some((place, language(column)?))).collect(),
            count: columns.len(),
            is_quoted: line.contains(&b'"')
                || columns.iter().any(|column| WEBSITE_COLUMN_PREFIXES.iter().any(|prefix| column.starts_with(prefix))),
        }
    }

    /// The record in a row. Fails if the row has another number of fields than the header.
    fn record(&self, fields: &[&[u8]]) -> Result<Record, RejectReason> {
        if fields.len() != self.count {
            return Err(RejectReason::BadRow);
        }
        let (mut record, mut corrections) = (Record::default(), Corrections::default());
        let mut value = |place: usize| {
            let bytes = fields.get(place).filter(|bytes| !bytes.is_empty())?;
            let text = String::from_utf8_lossy(bytes);
            if let Cow::Owned(_) = text {
                corrections.add(Correction::BrokenUtf8);
            }
            Some(Lenient::Text(text.into_owned()))
        };
        for (place, set) in &self.columns {
            if let Some(value) = value(*place) {
                set(&mut record, value);
            }
        }
        for (place, language) in &self.names {
            record.names.extend(value(*place).map(|name| (language.clone(), name)));
        }
        record.corrections = corrections;
        Ok(record)
    }
}

/// Whether `line`, the first of a file, is the header of a table of products.
pub(super) fn is_header(line: &[u8]) -> bool {
    names(line).any(|name| name == b"code") && names(line).count() > 1
}

/// The names in a header, without quotation marks around them.
fn names(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    header.split(|&byte| byte == b'\t').map(|field| {
        let field = field.trim_ascii();
        field.strip_prefix(b"\"").and_then(|field| field.strip_suffix(b"\"")).unwrap_or(field)
    })
}

/// Whole rows of a table, after its header.
#[derive(Debug)]
pub(super) struct Rows {
    /// The header of their table.
    pub(super) header: Arc<Header>,
    /// The rows as in the source.
    pub(super) text: Vec<u8>,
}

impl Rows {
    /// Passes each record to `emit`, with its line counted from 0, until they end or `emit` returns false.
    pub(super) fn read(&self, emit: impl FnMut(u64, Result<Record, RejectReason>) -> bool) {
        if self.header.is_quoted { self.read_quoted(emit) } else { self.read_unquoted(emit) }
    }

    fn read_unquoted(&self, mut emit: impl FnMut(u64, Result<Record, RejectReason>) -> bool) {
        let mut fields = Vec::with_capacity(self.header.count);
        for (number, line) in (0..).zip(self.text.split(|&byte| byte == b'\n')) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            fields.clear();
            fields.extend(line.split(|&byte| byte == b'\t'));
            if !line.is_empty() && !emit(number, self.header.record(&fields)) {
                return;
            }
        }
    }

    fn read_quoted(&self, mut emit: impl FnMut(u64, Result<Record, RejectReason>) -> bool) {
        let text = &self.text[..];
        let mut reader = ReaderBuilder::new();
        reader.delimiter(b'\t').terminator(Terminator::Any(b'\n')).has_headers(false).flexible(true);
        let (mut rows, mut row) = (reader.from_reader(text), ByteRecord::new());
        let (mut line, mut counted) = (0, 0);
        // Reading cannot fail: the text is in memory, and rows may have any length.
        while rows.read_byte_record(&mut row).unwrap_or(false) {
            let begin = row.position().map_or(0, |position| usize::try_from(position.byte()).unwrap_or(0));
            let begin = begin + text[begin..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            line += memchr::memchr_iter(b'\n', &text[counted..begin]).count() as u64;
            counted = begin;
            let mut fields: Vec<&[u8]> = row.iter().collect();
            if let Some(last) = fields.last_mut() {
                *last = last.strip_suffix(b"\r").unwrap_or(last);
            }
            if fields != [b""] && !emit(line, self.header.record(&fields)) {
                return;
            }
        }
    }
}

/// A row ends where its line ends, unless the line feed is within a quoted field.
pub(super) struct RowBoundaries(pub(super) Arc<Header>);

impl Boundaries for RowBoundaries {
    fn last_end(&self, text: &[u8]) -> usize {
        if !self.0.is_quoted {
            return memchr::memrchr(b'\n', text).map_or(0, |end| end + 1);
        }
        let (mut end, mut is_within, mut closed) = (0, false, None);
        for place in memchr::memchr2_iter(b'"', b'\n', text) {
            let before = place.checked_sub(1);
            match text[place] {
                b'"' if is_within => (is_within, closed) = (false, Some(place)),
                // A quotation mark opens a field only at its start. Two in a row within a field are one that is data.
                b'"' => {
                    is_within = closed == before || before.is_none_or(|before| matches!(text[before], b'\t' | b'\n'));
                }
                _ if !is_within => end = place + 1,
                _ => {}
            }
        }
        end
    }

    /// A cut row may look complete although its last field is cut.
    fn is_whole(&self, _: &[u8]) -> bool {
        false
    }
}
