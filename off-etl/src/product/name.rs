//! The name of a product.

use crate::{
    correction::{Corrections, text},
    record::Record,
};

/// Longer names are cut, in characters. Real names are far shorter, spam is not.
const MAX_NAME_LENGTH: usize = 300;

/// The product name, else the name in the product's language, else the generic name, else the name in English, else in
/// any language.
pub(super) fn name(record: &Record, corrections: &mut Corrections) -> Option<String> {
    let own_language = record.lang.text().and_then(|lang| record.names.get(&lang));
    let any_language = record.names.get("en").into_iter().chain(record.names.values());
    std::iter::once(&record.product_name)
        .chain(own_language)
        .chain([&record.generic_name])
        .chain(any_language)
        .find_map(|name| text(name, MAX_NAME_LENGTH, corrections))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &str) -> Option<String> {
        let record = Record::read(format!("{{{fields}}}").as_bytes()).unwrap();
        name(&record, &mut Corrections::default())
    }

    #[test]
    fn a_name_is_cleaned() {
        let name = of(r#""product_name": "  Silk &quot;leche&quot;\t de\u0000coco ""#);
        assert_eq!(name.as_deref(), Some("Silk \"leche\" de coco"));
        assert_eq!(of(r#""product_name": "\u200b\u2060 \u00ad""#), None);
        assert_eq!(of(r#""product_name": "\u202eabc\u200f""#).as_deref(), Some("abc"));
        // Joiners, which Persian and emoji need, stay.
        assert_eq!(of(r#""product_name": "a\u200cb\u200dc""#).as_deref(), Some("a\u{200c}b\u{200d}c"));
    }

    #[test]
    fn the_name_in_the_products_language_comes_before_the_generic_name() {
        let french = r#""product_name": "", "generic_name": "Légumes secs", "lang": "fr", "product_name_de": "Linsen", "product_name_fr": "Lentilles""#;
        assert_eq!(of(french).as_deref(), Some("Lentilles"));
        assert_eq!(of(&french.replace("_fr", "_es")).as_deref(), Some("Légumes secs"));
    }
}
