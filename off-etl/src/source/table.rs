//! Tables with tabs between the columns: the bulk export, whose quotation marks are data, and the website's, whose are not.

use super::{Content, Piece, Place};
use crate::{
    loose::Loose,
    record::{Images, NutrientLevels, Nutriments, Nutrition, Record},
};
use ::csv::{ByteRecord, Reader, ReaderBuilder};
use std::{
    collections::HashMap,
    io::{self, Read},
    sync::Arc,
};

/// Rows in a piece.
const ROWS: usize = 200;

/// A column of the website's export, whose fields may be in quotation marks with line feeds inside.
const WEBSITES_OWN: &[u8] = b"producer_version_id";

/// Where in a row each field is.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    places: HashMap<String, usize>,
    count: usize,
}

impl Columns {
    fn of(header: &ByteRecord) -> Self {
        let name = |field: &[u8]| String::from_utf8_lossy(field).trim().to_owned();
        // Of two columns with one name the first counts.
        let mut places = HashMap::new();
        for (place, field) in header.iter().enumerate() {
            places.entry(name(field)).or_insert(place);
        }
        Self { places, count: header.len() }
    }

    /// The record in `row`; an empty field is none.
    pub(crate) fn record(&self, row: &ByteRecord) -> Record {
        let field = |name: &str| -> Loose {
            let bytes = self.places.get(name).and_then(|&place| row.get(place)).unwrap_or_default();
            if bytes.is_empty() { Loose::Nothing } else { Loose::Text(String::from_utf8_lossy(bytes).into_owned()) }
        };
        let first = |names: [&str; 2]| match field(names[0]) {
            Loose::Nothing => field(names[1]),
            found => found,
        };
        // A table knows nothing but text, so that a number written as text is nothing to put right.
        let number = |name: &str| match field(name) {
            Loose::Text(text) => text.trim().parse().map_or(Loose::Text(text), Loose::Number),
            nothing => nothing,
        };
        let names = self.places.keys().filter_map(|column| {
            let language = column.strip_prefix("product_name_").filter(|language| language.len() == 2)?;
            Some((language.to_owned(), field(column))).filter(|(_, name)| *name != Loose::Nothing)
        });
        let mut record = Record {
            code: field("code"),
            product_name: field("product_name"),
            generic_name: field("generic_name"),
            names: names.collect(),
            lang: first(["lang", "lc"]),
            quantity: field("quantity"),
            product_quantity: number("product_quantity"),
            product_quantity_unit: field("product_quantity_unit"),
            image_url: first(["image_url", "image_front_url"]),
            images: Images::default(),
            nutriments: Nutriments {
                kcal_100g: number("energy-kcal_100g"),
                kcal_serving: number("energy-kcal_serving"),
                kj_100g: number("energy-kj_100g"),
                kj_serving: number("energy-kj_serving"),
            },
            nutrition: Nutrition::default(),
            nutrient_levels: NutrientLevels::default(),
            nutrient_levels_tags: field("nutrient_levels_tags"),
            nova_group: number("nova_group"),
            nutriscore_score: number("nutriscore_score"),
            nutriscore_grade: field("nutriscore_grade"),
            brands: field("brands"),
            brands_tags: field("brands_tags"),
            categories_tags: field("categories_tags"),
            countries_tags: first(["countries_tags", "countries"]),
            states_tags: first(["states_tags", "states"]),
            obsolete: field("obsolete"),
            last_modified_t: number("last_modified_t"),
            ..Record::default()
        };
        if row.iter().any(|field| std::str::from_utf8(field).is_err()) {
            record.mends.add(crate::mend::Mend::BrokenUtf8);
        }
        record
    }
}

/// Whether `header`, the first line of a file, is that of a table of products.
pub(super) fn is_header(line: &[u8]) -> bool {
    let mut columns = line.split(|&byte| byte == b'\t').map(<[u8]>::trim_ascii);
    columns.next().is_some_and(|name| name == b"code" || name == b"\"code\"") && columns.next().is_some()
}

/// Gives every piece from `start` on, until there are no more or nobody takes them.
pub(super) fn cut(
    bytes: impl Read,
    header: &[u8],
    start: Place,
    mut give: impl FnMut(Piece) -> bool,
) -> io::Result<()> {
    let is_quoted = header.contains(&b'"') || header.split(|&byte| byte == b'\t').any(|name| name == WEBSITES_OWN);
    let mut rows: Reader<_> =
        ReaderBuilder::new().delimiter(b'\t').quoting(is_quoted).flexible(true).from_reader(bytes);
    let columns = Arc::new(Columns::of(rows.byte_headers().map_err(io::Error::from)?));
    let mut place = start;
    let mut piece = Vec::new();
    let mut number = 0;
    let mut row = ByteRecord::new();
    loop {
        let more = rows.read_byte_record(&mut row);
        if let Ok(true) = more {
            number += 1;
            if number <= start.offset {
                continue;
            }
            let line = row.position().map_or(0, ::csv::Position::line);
            piece.push((line, (row.len() == columns.count).then(|| row.clone())));
        }
        let is_last = !matches!(more, Ok(true));
        if piece.len() == ROWS || is_last && !piece.is_empty() {
            let end = Place { offset: number, line: rows.position().line() - 1 };
            let content = Content::Rows(columns.clone(), std::mem::take(&mut piece));
            if !give(Piece { start: place, end, content }) {
                return Ok(());
            }
            place = end;
        }
        if is_last {
            return more.map(drop).map_err(io::Error::from);
        }
    }
}
