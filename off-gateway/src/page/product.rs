//! Products, as pages show them.

use super::{failure::Failure, services::ServiceApis, texts, viewer::Caller};
use crate::routes::Upstream;
use off_events::{Barcode, Money};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};

/// A product of the catalog, as the orders service answers.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Product {
    pub(super) barcode: Barcode,
    pub(super) name: String,
    pub(super) brands: Vec<String>,
    pub(super) quantity: String,
    pub(super) unit_price: Money,
    pub(super) price_source: String,
    pub(super) nutriscore: String,
    pub(super) nova_group: i16,
    pub(super) kcal_100g: Option<f64>,
    pub(super) nutrient_levels: NutrientLevels,
    pub(super) categories: Vec<String>,
    pub(super) image_url: Option<String>,
    pub(super) is_obsolete: bool,
}

/// How much of a nutrient a product has.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct NutrientLevels {
    fat: Option<String>,
    saturated_fat: Option<String>,
    sugars: Option<String>,
    salt: Option<String>,
}

/// A page of products.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Found {
    pub(super) products: Vec<Product>,
    pub(super) corrected: Option<String>,
    pub(super) next_page: Option<u32>,
}

/// The grades of the Nutri-Score, the best first.
pub(super) const GRADES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The host of product photos, which the content policy of pages names, too.
const PHOTOS: &str = "https://images.openfoodfacts.org/";

impl Product {
    /// The address of its photo, if there is one that a page may show.
    pub(super) fn photo(&self) -> Option<&str> {
        self.image_url.as_deref().filter(|url| url.starts_with(PHOTOS))
    }

    pub(super) fn brands(&self) -> String {
        self.brands.join(", ")
    }

    /// The levels that are known, by nutrient.
    pub(super) fn levels(&self) -> Vec<(&'static str, &str)> {
        let NutrientLevels { fat, saturated_fat, sugars, salt } = &self.nutrient_levels;
        let all = [("fat", fat), ("saturated fat", saturated_fat), ("sugars", sugars), ("salt", salt)];
        all.into_iter().filter_map(|(name, level)| Some((name, level.as_deref()?))).collect()
    }

    pub(super) fn has_grade(&self, grade: &str) -> bool {
        self.nutriscore == grade
    }

    /// What its NOVA group means.
    pub(super) fn nova(&self) -> &'static str {
        texts::nova_group(self.nova_group)
    }
}

/// A tag of Open Food Facts as a text: `en:green-teas` is `green teas`.
pub(super) fn tag_text(tag: &str) -> String {
    tag.split_once(':').map_or(tag, |(_, text)| text).replace('-', " ")
}

/// The products with these barcodes. Without an answer there are none, and pages show the barcodes.
pub(super) async fn find<'a>(
    services: &ServiceApis,
    caller: &Caller,
    barcodes: impl Iterator<Item = &'a Barcode>,
) -> HashMap<Barcode, Product> {
    let distinct: HashSet<&str> = barcodes.map(Barcode::as_str).collect();
    let distinct: Vec<&str> = distinct.into_iter().collect();
    let mut found = HashMap::new();
    // A request names at most 100.
    for some in distinct.chunks(100) {
        let path = format!("/api/products?barcodes={}", some.join(","));
        let products: Result<Found, Failure> = services.get(caller, Upstream::Orders, &path).await;
        let products = products.unwrap_or_default().products;
        found.extend(products.into_iter().map(|product| (product.barcode.clone(), product)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_text_without_its_language() {
        assert_eq!(["en:green-teas", "fr:tisanes", "teas"].map(tag_text), ["green teas", "tisanes", "teas"]);
    }
}
