//! Generates the built-in sample: invented products in the format of Open Food Facts' JSONL export, including faulty
//! ones.
//!
//! ```sh
//! cargo run -p off-etl --example make_sample > off-etl/sample/products.jsonl
//! ```
//!
//! Barcodes start with 20, which GS1 reserves for use inside a shop, so none of them belongs to a real product.
#![expect(clippy::print_stdout, reason = "the sample is written to standard output")]

use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// A kind of product: name, category, kcal per 100 g, NOVA group, Nutri-Score, its pack sizes.
type Kind = (&'static str, &'static str, i32, i32, i32, &'static [(&'static str, i32, &'static str)]);

const KINDS: [Kind; 40] = [
    ("Red lentils", "en:legumes", 345, 1, -8, &[("500 g", 500, "g"), ("1 kg", 1000, "g")]),
    ("Chickpeas", "en:legumes", 128, 3, -5, &[("400 g", 400, "g")]),
    ("Kidney beans", "en:legumes", 110, 3, -6, &[("400 g", 400, "g"), ("2 x 400 g", 800, "g")]),
    ("Basmati rice", "en:rices", 350, 1, -1, &[("500 g", 500, "g"), ("1 kg", 1000, "g")]),
    ("Brown rice", "en:rices", 355, 1, -3, &[("500 g", 500, "g")]),
    ("Spaghetti", "en:pastas", 355, 1, -4, &[("500 g", 500, "g"), ("1 kg", 1000, "g")]),
    ("Penne", "en:pastas", 354, 1, -4, &[("500 g", 500, "g")]),
    ("Couscous", "en:couscous", 356, 1, -3, &[("500 g", 500, "g")]),
    ("Rolled oats", "en:rolled-oats", 370, 1, -6, &[("500 g", 500, "g"), ("1 kg", 1000, "g")]),
    ("Crunchy muesli", "en:mueslis", 445, 4, 12, &[("375 g", 375, "g"), ("750 g", 750, "g")]),
    ("Corn flakes", "en:corn-flakes", 378, 4, 8, &[("375 g", 375, "g")]),
    ("Wholemeal bread", "en:breads", 235, 3, -2, &[("500 g", 500, "g"), ("750 g", 750, "g")]),
    ("Crispbread", "en:crispbreads", 350, 3, -1, &[("250 g", 250, "g")]),
    ("Oat biscuits", "en:biscuits", 470, 4, 16, &[("200 g", 200, "g"), ("2 x 150 g", 300, "g")]),
    ("Butter biscuits", "en:biscuits", 495, 4, 22, &[("150 g", 150, "g")]),
    ("Dark chocolate 70%", "en:dark-chocolates", 570, 3, 18, &[("100 g", 100, "g")]),
    ("Milk chocolate", "en:milk-chocolates", 540, 4, 24, &[("100 g", 100, "g"), ("200 g", 200, "g")]),
    ("Hazelnut spread", "en:hazelnut-spreads", 539, 4, 26, &[("400 g", 400, "g"), ("750 g", 750, "g")]),
    ("Peanut butter", "en:peanut-butters", 620, 3, 6, &[("350 g", 350, "g")]),
    ("Strawberry jam", "en:jams", 245, 3, 12, &[("340 g", 340, "g"), ("450 g", 450, "g")]),
    ("Blossom honey", "en:honeys", 320, 2, 14, &[("500 g", 500, "g")]),
    ("Olive oil", "en:olive-oils", 822, 2, 6, &[("500 ml", 500, "ml"), ("1 l", 1000, "ml")]),
    ("Sunflower oil", "en:sunflower-oils", 828, 2, 9, &[("1 l", 1000, "ml")]),
    ("Tomato passata", "en:tomato-purees", 32, 1, -6, &[("500 g", 500, "g"), ("700 g", 700, "g")]),
    ("Chopped tomatoes", "en:canned-tomatoes", 24, 3, -5, &[("400 g", 400, "g")]),
    ("Basil pesto", "en:pestos", 480, 4, 17, &[("190 g", 190, "g")]),
    ("Tomato ketchup", "en:ketchups", 102, 4, 11, &[("450 g", 450, "g"), ("500 ml", 500, "ml")]),
    ("Vegetable stock", "en:stocks", 230, 4, 19, &[("66 g", 66, "g"), ("10 cubes", 100, "g")]),
    ("Sea salt", "en:salts", 0, 2, 20, &[("500 g", 500, "g"), ("1 kg", 1000, "g")]),
    ("Green tea", "en:green-teas", 1, 1, 0, &[("20 bags", 40, "g"), ("100 g", 100, "g")]),
    ("Ground coffee", "en:ground-coffees", 2, 1, 0, &[("250 g", 250, "g"), ("500 g", 500, "g")]),
    ("Cocoa powder", "en:cocoa-powders", 350, 1, 3, &[("250 g", 250, "g")]),
    ("Semi-skimmed milk", "en:milks", 46, 1, -1, &[("1 l", 1000, "ml"), ("6 x 1 l", 6000, "ml")]),
    ("Oat drink", "en:oat-drinks", 45, 4, 1, &[("1 l", 1000, "ml")]),
    ("Natural yogurt", "en:yogurts", 62, 1, -1, &[("4 x 125 g", 500, "g"), ("500 g", 500, "g")]),
    ("Apple juice", "en:apple-juices", 45, 1, 4, &[("1 l", 1000, "ml"), ("6 x 200 ml", 1200, "ml")]),
    ("Mineral water", "en:waters", 0, 1, -1, &[("1.5 l", 1500, "ml"), ("6 x 1.5 l", 9000, "ml")]),
    ("Tuna in olive oil", "en:tunas", 190, 3, 2, &[("160 g", 160, "g"), ("3 x 80 g", 240, "g")]),
    ("Sardines", "en:sardines", 208, 3, 3, &[("125 g", 125, "g")]),
    ("Mixed nuts", "en:nuts", 610, 1, 0, &[("200 g", 200, "g")]),
];

const BRANDS: [&str; 16] = [
    "Hollow Oak",
    "Maris & Ford",
    "Terrafina",
    "Blue Larder",
    "Kornhof",
    "La Bonne Étagère",
    "Casa Serena",
    "Nordlys",
    "Green Finch",
    "Mill Lane",
    "Daily Basket",
    "Sol de Valle",
    "Ten Acres",
    "Petit Matin",
    "Alder & Rye",
    "Quay Street",
];

const VARIANTS: [&str; 5] = ["", "Organic", "Classic", "Family pack", "No added salt"];

const STATES: [&str; 5] = [
    "en:product-name-completed",
    "en:brands-completed",
    "en:quantity-completed",
    "en:front-photo-selected",
    "en:nutrition-facts-completed",
];

fn main() {
    let mut rng = ChaCha8Rng::seed_from_u64(2026);
    for number in 1..=1000 {
        let product = product(number, &mut rng);
        println!("{}", with_faults(number, product));
    }
}

fn product(number: u64, rng: &mut ChaCha8Rng) -> Value {
    let (name, category, kcal, nova, score, packs) = KINDS.choose(rng).copied().unwrap_or(KINDS[0]);
    let (quantity, amount, unit) = packs.choose(rng).copied().unwrap_or(packs[0]);
    let brand = BRANDS.choose(rng).copied().unwrap_or(BRANDS[0]);
    let variant = VARIANTS.choose(rng).copied().unwrap_or("");
    let kcal = (kcal + rng.random_range(-3..=3)).max(0);
    let score: i32 = score + rng.random_range(-2..=2);
    let tag = brand.to_lowercase().replace(" & ", "-").replace(' ', "-");
    let level = |low: i32, high: i32| {
        if score < low {
            "low"
        } else if score < high {
            "moderate"
        } else {
            "high"
        }
    };
    json!({
        "code": barcode(number),
        "product_name": format!("{name} {variant}").trim(),
        "brands": brand,
        "brands_tags": [format!("xx:{tag}")],
        "categories_tags": [category],
        "quantity": quantity,
        "product_quantity": amount,
        "product_quantity_unit": unit,
        "lang": "en",
        "images": {"front_en": {"imgid": "1", "rev": rng.random_range(3..60).to_string()}},
        "nova_group": nova,
        "nutriscore_grade": grade(score),
        "nutriscore_score": score,
        "nutrient_levels": {"fat": level(6, 14), "saturated-fat": level(8, 16), "sugars": level(4, 15), "salt": level(10, 18)},
        "nutriments": {"energy-kcal_100g": kcal, "energy-kj_100g": f64::from(kcal) * 4.184, "energy_100g": f64::from(kcal) * 4.184},
        "states_tags": STATES,
        "last_modified_t": 1_750_000_000 + number * 3600,
        "schema_version": 998,
    })
}

/// Nutri-Score 2017 for food that is not a drink.
fn grade(score: i32) -> &'static str {
    match score {
        ..=-1 => "a",
        0..=2 => "b",
        3..=10 => "c",
        11..=18 => "d",
        _ => "e",
    }
}

/// An EAN-13 with its check digit, from the range for use inside a shop.
fn barcode(number: u64) -> String {
    let digits = format!("20{number:010}");
    let sum: u32 =
        digits.bytes().enumerate().map(|(at, digit)| u32::from(digit - b'0') * if at % 2 == 0 { 1 } else { 3 }).sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// Adds a fault of real records to about one record in eight; half of the faulty records are rejected for it.
fn with_faults(number: u64, mut product: Value) -> String {
    match number % 97 {
        3 => product["product_name"] = json!(""),
        7 => product["quantity"] = json!(null),
        11 => product["nova_group"] = json!(product["nova_group"].to_string()),
        13 => product["nutriscore_grade"] = json!("unknown"),
        17 => product["nutriments"]["energy-kcal_100g"] = json!("357.00"),
        19 => product["brands_tags"] = json!([null, "", product["brands_tags"][0], product["brands_tags"][0]]),
        23 => product["nutriments"] = json!([]),
        29 => {
            product["product_name"] =
                json!(format!("{} &amp; herbs\u{0}", product["product_name"].as_str().unwrap_or_default()));
        }
        31 => product["last_modified_t"] = json!(product["last_modified_t"].to_string()),
        37 => product["nutriments"]["energy-kcal_100g"] = json!(1e25),
        41 => product["states_tags"] = json!(["en:to-be-completed"]),
        43 => product["nova_group"] = json!(13.33),
        47 => product["product_quantity"] = json!(product["product_quantity"].to_string()),
        53 => product["images"] = json!({}),
        59 => {
            let kcal = product["nutriments"]["energy-kcal_100g"].clone();
            let nutrient = json!({"value": kcal, "unit": "kcal", "source": "packaging"});
            product["nutrition"] = json!({"aggregated_set": {"nutrients": {"energy-kcal": nutrient}}});
            product["schema_version"] = json!(1003);
            product.as_object_mut().map(|product| product.remove("nutriments"));
        }
        61 => product["code"] = json!("2-KG-PACK"),
        _ => {}
    }
    let line = product.to_string();
    if number.is_multiple_of(499) { line[..line.len() / 2].to_owned() } else { line }
}
