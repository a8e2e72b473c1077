//! Fuzzes the parser of records: no line causes a panic, and products have a bounded size.
//!
//! `cargo test` tries random edits of a valid record for some seconds. After `cargo install cargo-bolero`, `cargo
//! bolero test every_line_is_read_safely -p off-etl-fuzz --sanitizer NONE` searches with libFuzzer. This is a separate
//! crate, because libFuzzer cannot be linked into the importer program, which the importer's tests start.
#![cfg(test)]

use off_etl::{Profile, product::Product, record::Record};

/// The record that is edited.
const VALID_RECORD: &str = r#"{"code": "2000000000015", "product_name": "Red lentils", "quantity": "500 g", "product_quantity": 500,
    "nova_group": 1, "nutriscore_grade": "a", "nutriscore_score": -3, "brands_tags": ["xx:hollow-oak", "mill-lane"], "lang": "en",
    "categories_tags": ["en:legumes"], "images": {"front_en": {"rev": "3"}}, "nutriments": {"energy-kcal_100g": 345},
    "nutrition": {"aggregated_set": {"per": "100g", "nutrients": {"energy-kj": {"value": 1443, "source": "packaging"}}}},
    "nutrient_levels": {"fat": "low", "sugars": "moderate"}, "last_modified_t": 1700000000}"#;

/// Size of the texts and tags of a product, in bytes.
const MAX_PRODUCT_SIZE: usize = 200_000;

/// Texts that edits insert.
const INSERTIONS: [&str; 24] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "1e999",
    "\\u0000",
    "\\ud83d",
    "&amp;",
    "\u{fffd}",
    "\"code\":",
    "\"nutriments\":[]",
    "\"images\":{\"front_\":{\"rev\":",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
    "9999999999999999999999",
    "\n",
    "\r",
    "\\",
];

/// Edits `line` as the fuzzer's bytes say. Four bytes are one edit: two for its place, one for its argument, one for
/// its kind.
fn edit(line: &mut Vec<u8>, script: &[u8]) {
    for step in script.chunks_exact(4) {
        let place = usize::from(step[0]) * 256 + usize::from(step[1]);
        let place = place % (line.len() + 1);
        match step[3] % 4 {
            0 => line.truncate(place.max(1)),
            1 => drop(line.splice(place..place, [step[2]])),
            2 => drop(line.splice(place..place, INSERTIONS[usize::from(step[2]) % INSERTIONS.len()].bytes())),
            _ => {
                let end = (place + usize::from(step[2])).min(line.len());
                let repeated = line[place..end].repeat(3);
                line.splice(place..end, repeated);
            }
        }
    }
}

#[test]
fn every_line_is_read_safely() {
    bolero::check!().with_test_time(std::time::Duration::from_secs(5)).for_each(|script: &[u8]| {
        let mut line = VALID_RECORD.as_bytes().to_vec();
        edit(&mut line, script);
        let Ok(read) = Record::read(&line) else { return };
        let Ok((product, _)) = Product::from_record(&read, Profile::All) else { return };
        assert!((8..=24).contains(&product.barcode.as_str().len()));
        assert!((1..=4).contains(&product.nova_group));
        assert!(!product.name.is_empty() && !product.name.contains(char::is_control));
        let size = product.name.len()
            + product.quantity.len()
            + product.brands.concat().len()
            + product.categories.concat().len();
        assert!(size <= MAX_PRODUCT_SIZE, "{size} bytes");
    });
}
