//! Whatever a line holds, reading it ends well, and what comes of it is bounded.
//!
//! Under `cargo test` this takes random edits of a sound record for a while. With `cargo install cargo-bolero`,
//! `cargo bolero test no_line_is_too_much -p off-etl-fuzz --sanitizer NONE` lets libFuzzer look for them. It is a crate of its own,
//! because libFuzzer cannot be linked into the importer's program, which its own tests start.
#![cfg(test)]

use off_etl::{Profile, product::Product, record::Record};

/// What is edited.
const SOUND: &str = r#"{"code": "2000000000015", "product_name": "Red lentils", "quantity": "500 g", "product_quantity": 500,
    "nova_group": 1, "nutriscore_grade": "a", "nutriscore_score": -3, "brands_tags": ["xx:hollow-oak", "mill-lane"], "lang": "en",
    "categories_tags": ["en:legumes"], "images": {"front_en": {"rev": "3"}}, "nutriments": {"energy-kcal_100g": 345},
    "nutrition": {"aggregated_set": {"per": "100g", "nutrients": {"energy-kj": {"value": 1443, "source": "packaging"}}}},
    "nutrient_levels": {"fat": "low", "sugars": "moderate"}, "last_modified_t": 1700000000}"#;

/// The most that a product may hold, in bytes: its bounded texts and tags.
const LARGEST_PRODUCT: usize = 200_000;

/// What edits put in.
const PIECES: [&str; 24] = [
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

/// Edits as the fuzzer's bytes say: three for a place, and one for what is done there.
fn edit(line: &mut Vec<u8>, script: &[u8]) {
    for step in script.chunks_exact(4) {
        let place = usize::from(step[0]) * 256 + usize::from(step[1]);
        let place = place % (line.len() + 1);
        match step[3] % 4 {
            0 => line.truncate(place.max(1)),
            1 => drop(line.splice(place..place, [step[2]])),
            2 => drop(line.splice(place..place, PIECES[usize::from(step[2]) % PIECES.len()].bytes())),
            _ => {
                let end = (place + usize::from(step[2])).min(line.len());
                let repeated = line[place..end].repeat(3);
                line.splice(place..end, repeated);
            }
        }
    }
}

#[test]
fn no_line_is_too_much() {
    bolero::check!().with_test_time(std::time::Duration::from_secs(5)).for_each(|script: &[u8]| {
        let mut line = SOUND.as_bytes().to_vec();
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
        assert!(size <= LARGEST_PRODUCT, "{size} bytes");
    });
}
