//! Tables with tabs between the columns: the bulk export, whose quotation marks are data, and the website's, whose are not.

use super::{Content, text::Records};
use crate::{
    loose::Loose,
    mend::{Mend, Mends},
    record::Record,
};
use ::csv::{ByteRecord, ReaderBuilder, Terminator};
use std::{borrow::Cow, sync::Arc};

/// Beginnings of columns that the website's export alone has, whose fields may be in quotation marks with line feeds inside.
const WEBSITES_OWN: [&str; 3] = ["producer_", "off:", "sources_fields:"];

/// Puts what a column says into a record.
type Put = fn(&mut Record, Loose);

/// The columns that are read; of two that are put in one place the later one counts, where it says anything.
const COLUMNS: [(&str, Put); 28] = [
    ("code", |record, value| record.code = value),
    ("product_name", |record, value| record.product_name = value),
    ("generic_name", |record, value| record.generic_name = value),
    ("lc", |record, value| record.lang = value),
    ("lang", |record, value| record.lang = value),
    ("quantity", |record, value| record.quantity = value),
    ("product_quantity", |record, value| record.product_quantity = number(value)),
    ("product_quantity_unit", |record, value| record.product_quantity_unit = value),
    ("image_front_url", |record, value| record.image_url = value),
    ("image_url", |record, value| record.image_url = value),
    ("energy-kcal_100g", |record, value| record.nutriments.kcal_100g = number(value)),
    ("energy-kcal_serving", |record, value| record.nutriments.kcal_serving = number(value)),
    ("energy-kj_100g", |record, value| record.nutriments.kj_100g = number(value)),
    ("energy-kj_serving", |record, value| record.nutriments.kj_serving = number(value)),
    ("nutrient_levels_tags", |record, value| record.nutrient_levels_tags = value),
    ("nova_group", |record, value| record.nova_group = number(value)),
    ("nutriscore_score", |record, value| record.nutriscore_score = number(value)),
    ("nutriscore_grade", |record, value| record.nutriscore_grade = value),
    ("brands", |record, value| record.brands = value),
    ("brands_tags", |record, value| record.brands_tags = value),
    ("categories_tags", |record, value| record.categories_tags = value),
    ("countries", |record, value| record.countries_tags = value),
    ("countries_tags", |record, value| record.countries_tags = value),
    ("states", |record, value| record.states_tags = value),
    ("states_tags", |record, value| record.states_tags = value),
    ("obsolete", |record, value| record.obsolete = value),
    ("last_modified_t", |record, value| record.last_modified_t = number(value)),
    ("last_updated_t", |record, value| record.last_updated_t = number(value)),
];

/// A table knows nothing but text, so that a number written as text is nothing to put right.
fn number(value: Loose) -> Loose {
    match value {
        Loose::Text(text) => text.trim().parse().map_or(Loose::Text(text), Loose::Number),
        other => other,
    }
}

/// What is in which column, and how a row is read.
#[derive(Debug, Default)]
pub(crate) struct Header {
    columns: Vec<(usize, Put)>,
    /// `product_name_fr` and the like, by language.
    names: Vec<(usize, String)>,
    count: usize,
    is_quoted: bool,
}

impl Header {
    /// What `line`, the first one of a table, says.
    pub(super) fn of(line: &[u8]) -> Self {
        let columns: Vec<Cow<'_, str>> = names(line).map(String::from_utf8_lossy).collect();
        // Of two columns with one name the first counts.
        let place = |name: &str| columns.iter().position(|column| column == name);
        let language =
            |column: &str| column.strip_prefix("product_name_").filter(|name| name.len() == 2).map(str::to_owned);
        Self {
            columns: COLUMNS.iter().filter_map(|(name, put)| Some((place(name)?, *put))).collect(),
            names: columns.iter().enumerate().filter_map(|(place, column)| Some((place, language(column)?))).collect(),
            count: columns.len(),
            is_quoted: line.contains(&b'"')
                || columns.iter().any(|column| WEBSITES_OWN.iter().any(|own| column.starts_with(own))),
        }
    }

    /// Gives the records in `text`, each with its line there, the first of which is 0; `None` is a row that does not fit.
    pub(crate) fn read(&self, text: &[u8], mut give: impl FnMut(u64, Option<Record>)) {
        if self.is_quoted {
            self.read_quoted(text, give);
        } else {
            let mut fields = Vec::with_capacity(self.count);
            for (number, line) in (0..).zip(text.split(|&byte| byte == b'\n')) {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if !line.is_empty() {
                    fields.clear();
                    fields.extend(line.split(|&byte| byte == b'\t'));
                    give(number, self.record(&fields));
                }
            }
        }
    }

    fn read_quoted(&self, text: &[u8], mut give: impl FnMut(u64, Option<Record>)) {
        let mut reader = ReaderBuilder::new();
        reader.delimiter(b'\t').terminator(Terminator::Any(b'\n')).has_headers(false).flexible(true);
        let (mut rows, mut row) = (reader.from_reader(text), ByteRecord::new());
        let (mut line, mut counted) = (0, 0);
        // In memory, and with rows of any length, nothing can fail.
        while rows.read_byte_record(&mut row).unwrap_or(false) {
            let begin = row.position().map_or(0, |position| usize::try_from(position.byte()).unwrap_or(0));
            let begin = begin + text[begin..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            line += memchr::memchr_iter(b'\n', &text[counted..begin]).count() as u64;
            counted = begin;
            let mut fields: Vec<&[u8]> = row.iter().collect();
            if let Some(last) = fields.last_mut() {
                *last = last.strip_suffix(b"\r").unwrap_or(last);
            }
            if fields != [b""] {
                give(line, self.record(&fields));
            }
        }
    }

    fn record(&self, fields: &[&[u8]]) -> Option<Record> {
        if fields.len() != self.count {
            return None;
        }
        let (mut record, mut mends) = (Record::default(), Mends::default());
        let mut value = |place: usize| {
            let bytes = fields.get(place).filter(|bytes| !bytes.is_empty())?;
            let text = String::from_utf8_lossy(bytes);
            if let Cow::Owned(_) = text {
                mends.add(Mend::BrokenUtf8);
            }
            Some(Loose::Text(text.into_owned()))
        };
        for (place, put) in &self.columns {
            // An empty field says nothing.
            if let Some(value) = value(*place) {
                put(&mut record, value);
            }
        }
        for (place, language) in &self.names {
            record.names.extend(value(*place).map(|name| (language.clone(), name)));
        }
        record.mends = mends;
        Some(record)
    }
}

/// Whether `line`, the first of a file, is the header of a table of products.
pub(super) fn is_header(line: &[u8]) -> bool {
    names(line).any(|name| name == b"code") && names(line).count() > 1
}

/// The names in a header; no name holds a quotation mark.
fn names(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    header.split(|&byte| byte == b'\t').map(|field| {
        let field = field.trim_ascii();
        field.strip_prefix(b"\"").and_then(|field| field.strip_suffix(b"\"")).unwrap_or(field)
    })
}

/// The rows of a table, after its header.
pub(super) struct Rows(pub(super) Arc<Header>);

impl Records for Rows {
    fn last_end(&self, text: &[u8]) -> usize {
        if !self.0.is_quoted {
            return memchr::memrchr(b'\n', text).map_or(0, |end| end + 1);
        }
        let (mut end, mut is_within, mut closed) = (0, false, None);
        for place in memchr::memchr2_iter(b'"', b'\n', text) {
            let before = place.checked_sub(1);
            match text[place] {
                b'"' if is_within => (is_within, closed) = (false, Some(place)),
                // Only where a field begins it opens one; or two in a row are one that is data.
                b'"' => {
                    is_within = closed == before || before.is_none_or(|before| matches!(text[before], b'\t' | b'\n'));
                }
                _ if !is_within => end = place + 1,
                _ => {}
            }
        }
        end
    }

    /// Nobody knows what is missing of its last field.
    fn is_whole(&self, _: &[u8]) -> bool {
        false
    }

    fn content(&self, text: Vec<u8>) -> Content {
        Content::Rows(self.0.clone(), text)
    }
}
