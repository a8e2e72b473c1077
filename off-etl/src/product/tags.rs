//! Brands and categories of a product.

use crate::{
    correction::{Corrections, tag},
    lenient::Lenient,
    record::Record,
};
use std::collections::BTreeSet;

/// Longer tags are cut, in characters.
const MAX_TAG_LENGTH: usize = 150;

/// Brands or categories of a product; more are dropped.
const MAX_TAGS: usize = 100;

/// The brands, without the language of their tags.
pub(super) fn brands(record: &Record, corrections: &mut Corrections) -> Vec<String> {
    tags(record.brand_names(), without_language, corrections)
}

/// The categories, with the language of their tags.
pub(super) fn categories(record: &Record, corrections: &mut Corrections) -> Vec<String> {
    tags(&record.categories_tags, |tag| tag, corrections)
}

/// Tags without duplicates, in their order.
fn tags(value: &Lenient, name: fn(&str) -> &str, corrections: &mut Corrections) -> Vec<String> {
    let mut seen = BTreeSet::new();
    value
        .texts()
        .into_iter()
        .map(|value| name(&tag(&value, MAX_TAG_LENGTH, corrections)).to_owned())
        .filter(|tag| !tag.is_empty() && seen.insert(tag.clone()))
        .take(MAX_TAGS)
        .collect()
}

/// `xx:ferrero` and `ferrero` are one brand.
fn without_language(tag: &str) -> &str {
    match tag.split_once(':') {
        Some((language, name)) if language.len() == 2 && language.bytes().all(|b| b.is_ascii_lowercase()) => name,
        _ => tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brands_have_no_language_and_no_duplicates() {
        let record = br#"{"brands_tags": ["xx:silk", null, "", "silk", "en:So Good", "a:b"]}"#;
        let brands = brands(&Record::read(record).unwrap(), &mut Corrections::default());
        assert_eq!(brands, ["silk", "So Good", "a:b"]);
    }
}
