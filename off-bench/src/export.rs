//! A generated export of any size, with the structure of the real one.

use flate2::{Compression, write::GzEncoder};
use rand::{Rng, RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

/// Number of different records. A longer export repeats them with other barcodes, at distances beyond gzip's window.
const TEMPLATES: usize = 1500;

/// Approximate share of records that become products; in the real export it is 15 %.
const PRODUCT_SHARE: f64 = 0.15;

const WORDS: [&str; 40] = [
    "wheat",
    "sugar",
    "palm",
    "oil",
    "cocoa",
    "milk",
    "skimmed",
    "powder",
    "salt",
    "emulsifier",
    "soya",
    "lecithin",
    "flavouring",
    "barley",
    "malt",
    "extract",
    "glucose",
    "syrup",
    "raising",
    "agent",
    "sodium",
    "carbonate",
    "hazelnut",
    "almond",
    "starch",
    "modified",
    "citric",
    "acid",
    "paprika",
    "garlic",
    "onion",
    "tomato",
    "paste",
    "vegetable",
    "fibre",
    "oat",
    "rice",
    "flour",
    "egg",
    "white",
];

/// Barcode of every template, which is replaced in each copy.
const PLACEHOLDER: &str = "9999999999999";

/// Size of an export.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Number of records.
    pub records: u64,
    /// Size in bytes, decompressed.
    pub bytes: u64,
}

/// Writes an export of at least `bytes` decompressed bytes to `path`, compressed like the real one. The records are
/// generated, or taken from `lines`, each a record with a `code`.
pub fn write(path: &Path, bytes: u64, lines: Option<&str>, mut on_bytes: impl FnMut(u64)) -> io::Result<Size> {
    let templates = lines.map_or_else(generate, |lines| lines.lines().filter_map(template).collect());
    if templates.is_empty() {
        return Err(io::Error::other("no line is a record with a code"));
    }
    let mut packed = GzEncoder::new(BufWriter::new(File::create(path)?), Compression::default());
    let mut size = Size { records: 0, bytes: 0 };
    for (template, number) in templates.iter().cycle().zip(0_u64..) {
        let line = template.replace(PLACEHOLDER, &format!("20{number:011}"));
        packed.write_all(line.as_bytes())?;
        packed.write_all(b"\n")?;
        size.records += 1;
        size.bytes += line.len() as u64 + 1;
        if number % 1000 == 0 {
            on_bytes(size.bytes);
        }
        if size.bytes >= bytes {
            break;
        }
    }
    packed.finish()?.flush()?;
    Ok(size)
}

/// A real record with the placeholder as its barcode; `None` if it has no `code`.
fn template(line: &str) -> Option<String> {
    let mut record: Map<String, Value> = serde_json::from_str(line).ok()?;
    record.get("code")?;
    for name in ["code", "_id", "id"] {
        if record.contains_key(name) {
            record.insert(name.to_owned(), PLACEHOLDER.into());
        }
    }
    serde_json::to_string(&record).ok()
}

fn generate() -> Vec<String> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    (0..TEMPLATES).map(|_| record(&mut random).to_string()).collect()
}

/// A record with as many fields as a real one, as deep and as long. About half of it is about photos, ingredients and
/// editors.
fn record(random: &mut impl Rng) -> Value {
    let words =
        |random: &mut dyn FnMut() -> &'static str, count: usize| (0..count).map(|_| random()).collect::<Vec<_>>();
    let mut word = || *WORDS.choose(random).unwrap_or(&"salt");
    let ingredients: Vec<Value> = (0..18)
        .map(|rank| {
            let name = words(&mut word, 3).join(" ");
            json!({"id": format!("en:{}", name.replace(' ', "-")), "text": name, "rank": rank, "percent_estimate": 100.0 / f64::from(rank + 1),
                   "percent_max": 100, "percent_min": 0.5, "vegan": "maybe", "vegetarian": "yes", "is_in_taxonomy": 1})
        })
        .collect();
    let tags = words(&mut word, 60);
    let name = words(&mut word, 4).join(" ");
    let text = words(&mut word, 90).join(", ");
    let is_product = random.random_bool(PRODUCT_SHARE);
    let images = images(random, is_product);
    let nutriments = nutriments(random);
    let states = [
        "product-name-completed",
        "brands-completed",
        "quantity-completed",
        "front-photo-selected",
        "nutrition-facts-completed",
    ];
    let states: Vec<String> =
        states.iter().take(if is_product { 5 } else { 3 }).map(|state| format!("en:{state}")).collect();
    json!({
        "_id": PLACEHOLDER, "code": PLACEHOLDER, "id": PLACEHOLDER, "_keywords": tags, "product_name": name, "product_name_en": name,
        "generic_name": "", "quantity": if is_product { "500 g" } else { "" }, "product_quantity": 500, "product_quantity_unit": "g",
        "brands": "Hollow Oak, Mill Lane", "brands_tags": ["xx:hollow-oak", "xx:mill-lane"], "lang": "en", "lc": "en",
        "categories_tags": tags[..12], "categories_hierarchy": tags[..12], "countries_tags": ["en:france", "en:germany"],
        "labels_tags": tags[12..20], "editors_tags": tags[20..32], "informers_tags": tags[32..40], "states_tags": states,
        "ingredients": ingredients, "ingredients_text": text, "ingredients_text_en": text, "ingredients_tags": tags, "ingredients_hierarchy": tags,
        "images": images, "nutriments": nutriments, "nutrient_levels": {"fat": "low", "saturated-fat": "low", "sugars": "moderate", "salt": "high"},
        "nova_group": random.random_range(1..=4), "nova_groups_tags": ["en:4-ultra-processed"],
        "nutriscore_score": random.random_range(-5..25), "nutriscore_grade": if is_product { "c" } else { "unknown" },
        "last_modified_t": 1_700_000_000 + random.random_range(0..50_000_000), "created_t": 1_500_000_000, "rev": 17,
        "data_quality_warnings_tags": tags[40..50], "misc_tags": tags[50..60], "popularity_tags": tags[..30], "unique_scans_n": 3,
    })
}

/// The photos of a record, and which of them it shows.
fn images(random: &mut impl Rng, is_product: bool) -> Map<String, Value> {
    let mut images = Map::new();
    for number in 1..=9 {
        let size = |side: u32| json!({"h": side, "w": side * 3 / 4});
        let image = json!({"uploader": "somebody", "uploaded_t": 1_600_000_000 + random.random_range(0..90_000_000),
                           "sizes": {"100": size(100), "400": size(400), "full": size(2048)}});
        images.insert(number.to_string(), image);
    }
    if is_product || random.random_bool(0.6) {
        for kind in ["front_en", "ingredients_en", "nutrition_en", "front_fr"] {
            images.insert(kind.to_owned(), json!({"rev": random.random_range(3..90).to_string(), "imgid": "1", "geometry": "0x0--1--1",
                "sizes": {"100": {"h": 100, "w": 75}, "200": {"h": 200, "w": 150}, "400": {"h": 400, "w": 300}, "full": {"h": 1200, "w": 900}}}));
        }
    }
    images
}

/// The nutrients of a record, in each unit in which the real export has them.
fn nutriments(random: &mut impl Rng) -> Map<String, Value> {
    let mut nutriments = Map::new();
    for nutrient in [
        "energy-kcal",
        "energy-kj",
        "energy",
        "fat",
        "saturated-fat",
        "carbohydrates",
        "sugars",
        "fiber",
        "proteins",
        "salt",
        "sodium",
    ] {
        let value = f64::from(random.random_range(0..9000_u32)) / 10.0;
        for part in ["", "_100g", "_serving", "_value"] {
            nutriments.insert(format!("{nutrient}{part}"), json!(value));
        }
        nutriments.insert(format!("{nutrient}_unit"), json!("g"));
    }
    nutriments
}
