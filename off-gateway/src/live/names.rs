//! The names of products in events, which have only barcodes.

use crate::{
    client::{self, HttpClient},
    config::Base,
};
use off_events::Barcode;
use serde::Deserialize;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// How many names are kept; then all are forgotten.
const KEPT: usize = 5_000;

/// Names that arrive later are shown the next time.
const TIMEOUT: Duration = Duration::from_millis(300);

/// Maximum size of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Looks up names in the orders service.
pub(super) struct Names {
    client: HttpClient,
    orders: Base,
    known: HashMap<Barcode, String>,
}

#[derive(Deserialize)]
struct Products {
    products: Vec<Product>,
}

#[derive(Deserialize)]
struct Product {
    barcode: Barcode,
    name: String,
}

impl Names {
    pub(super) fn new(client: HttpClient, orders: Base) -> Self {
        Self { client, orders, known: HashMap::new() }
    }

    /// The name of a product, if it is known.
    pub(super) fn get(&self, barcode: &Barcode) -> Option<&String> {
        self.known.get(barcode)
    }

    /// Looks up the names of these products that are not known; at most 100.
    pub(super) async fn look_up<'a>(&mut self, barcodes: impl Iterator<Item = &'a Barcode>) {
        let unknown: HashSet<&str> =
            barcodes.filter(|barcode| !self.known.contains_key(*barcode)).take(100).map(Barcode::as_str).collect();
        if unknown.is_empty() {
            return;
        }
        let path = format!("/api/products?barcodes={}", unknown.into_iter().collect::<Vec<_>>().join(","));
        let Ok(target) = path.parse() else { return };
        let answer = client::get(&self.client, self.orders.join(target), MAX_ANSWER_BYTES, TIMEOUT).await;
        let body = answer.ok().filter(|(status, _)| status.is_success()).map(|(_, body)| body);
        let found = body.and_then(|body| serde_json::from_slice::<Products>(&body).ok());
        if self.known.len() > KEPT {
            self.known.clear();
        }
        let products = found.map(|found| found.products).unwrap_or_default();
        self.known.extend(products.into_iter().map(|product| (product.barcode, product.name)));
    }
}
