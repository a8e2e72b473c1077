//! The columns that are read, and the schema with only these.

use super::super::Contents;
use ::parquet::schema::types::Type;
use std::sync::Arc;

/// The columns of products that are read, together with `TIMES`.
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
/// The columns with times.
const TIMES: [&str; 2] = ["last_modified_t", "last_updated_t"];

/// The columns of prices that are read.
const PRICE_COLUMNS: [&str; 5] = ["product_code", "price", "currency", "date", "price_is_discounted"];

/// The parts of each photo and each nutrient that are read.
const PARTS: [(&str, &[&str]); 2] = [("images", &["key", "rev"]), ("nutriments", &["name", "100g", "serving"])];

/// The column with barcodes, without which a file holds something else.
pub(super) fn barcodes(contents: Contents) -> &'static str {
    match contents {
        Contents::Products => "code",
        Contents::Prices => "product_code",
    }
}

/// Whether a column is read.
pub(super) fn is_read(column: &str, contents: Contents) -> bool {
    match contents {
        Contents::Products => COLUMNS.contains(&column) || TIMES.contains(&column),
        Contents::Prices => PRICE_COLUMNS.contains(&column),
    }
}

/// The file's schema with only the columns and parts that are needed.
pub(super) fn projection(schema: &Type, contents: Contents) -> Type {
    let wanted = schema
        .get_fields()
        .iter()
        .filter(|column| is_read(column.name(), contents))
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
