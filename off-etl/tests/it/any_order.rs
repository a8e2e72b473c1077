//! The order of records and the number of imports make no difference to the catalog.

use crate::{import_file, record};
use off_testkit::Database;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// Number of seeds.
const TRIALS: u64 = 12;

/// The catalog without the product numbers, which depend on the order.
async fn catalog(db: &Database) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT concat_ws('|', product.barcode, name, quantity, last_modified, obsolete, kcal_100g, categories, fat, salt,
                price_cents, price_source,
                ARRAY(SELECT brands.name FROM catalog.product_brands JOIN catalog.brands ON brands.id = brand_id
                      WHERE product_brands.barcode = product.barcode ORDER BY 1))
         FROM catalog.products AS product JOIN catalog.nutrient_levels USING (barcode) ORDER BY 1",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap()
}

/// Records of few barcodes, also in both forms of 12 and 13 digits, that changed in few different seconds.
fn records(random: &mut ChaCha8Rng) -> Vec<String> {
    (0..120)
        .map(|number| {
            let code = 200_000_000_000_u64 + random.random_range(0..20);
            let code = if random.random_bool(0.5) { format!("{code}") } else { format!("0{code}") };
            let line = record(&code, &format!("Lentils {number}"), random.random_range(1..6));
            let line = line
                .replace("\"quantity\":", &format!("\"last_updated_t\": {}, \"quantity\":", random.random_range(1..9)));
            match random.random_range(0..5) {
                0 => line.replace("\"quantity\": \"500 g\"", "\"quantity\": \"\""),
                1 => line.replace("[\"xx:hollow-oak\", \"mill-lane\"]", "[\"en:brook-farm\"]"),
                2 => line.replace("\"nova_group\": 1", "\"nova_group\": 1, \"obsolete\": \"on\""),
                // Rejected, but still marks the product as no longer sold.
                3 => line.replace("\"nova_group\": 1", "\"obsolete\": 1"),
                _ => line,
            }
        })
        .collect()
}

#[tokio::test]
async fn any_sequence_of_imports_ends_in_the_same_catalog() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..TRIALS {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut lines = records(&mut random);
        let mut ends = Vec::new();
        for _ in 0..2 {
            lines.shuffle(&mut random);
            let db = Database::new().await;
            // In several files, some of them imported twice.
            for part in lines.chunks(random.random_range(1..=lines.len())) {
                let path = folder.path().join("part.jsonl");
                std::fs::write(&path, part.join("\n")).unwrap();
                for _ in 0..random.random_range(1..=2) {
                    import_file(&db, &path).await.unwrap();
                }
            }
            ends.push(catalog(&db).await);
        }
        assert_eq!(ends[0], ends[1], "seed {seed}");
        assert!(ends[0].len() > 10, "seed {seed}: {} products", ends[0].len());
    }
}
