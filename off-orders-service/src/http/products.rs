//! The products that can be ordered.

use crate::{
    App,
    domain::Product,
    search::{self, Found, Search},
    store,
};
use axum::{Json, extract::State};
use off_events::Barcode;
use off_kit::http::{ApiPath, ApiQuery, CommonCode, PageSize, Problem};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Products per page.
const PAGE_SIZE: PageSize = PageSize { default: 24, max: 100 };

/// Only so many of the best products are ranked, so that a search has so many pages at most.
const MAX_OFFSET: i64 = store::MAX_RANKED;

/// Which products to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListProducts {
    /// Words of the name, the brand or the categories, in any case and without accents. The last one may be a beginning. A
    /// barcode finds its product.
    #[param(example = "red lentils")]
    q: Option<String>,
    /// Only products of this brand.
    brand: Option<String>,
    /// Only products of this category.
    #[param(example = "en:teas")]
    category: Option<String>,
    /// Only these products: up to 100 barcodes, separated by commas. Without the other parameters.
    barcodes: Option<String>,
    /// The `next_page` of the previous page; the first is 1.
    #[param(minimum = 1)]
    page: Option<u32>,
    /// Products per page, 1 to 100; default 24.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// A page of products.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProductPage {
    /// The best first; without words in the order of the import.
    products: Vec<Product>,
    /// The words that were searched instead, because no product has those of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    corrected: Option<String>,
    /// The `page` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page: Option<u32>,
}

impl ProductPage {
    /// The first `limit` of the found products, which have one more than that if there is another page.
    fn new(found: Found, limit: u32, page: u32) -> Self {
        let Found { mut products, corrected } = found;
        let has_more = products.len() > limit as usize;
        products.truncate(limit as usize);
        let next_page = has_more.then(|| page + 1).filter(|page| i64::from(page - 1) * i64::from(limit) < MAX_OFFSET);
        Self { products, corrected, next_page }
    }
}

/// Search the catalog, or list it, in pages.
///
/// If no product has the words, those of the catalog that are most similar are searched instead. The 1,000 best products
/// can be reached.
#[utoipa::path(get, path = "/api/products", tag = "products", security(()), params(ListProducts), responses(
    (status = 200, description = "a page of products", body = ProductPage),
    (status = 400, description = "an invalid query parameter", body = Problem),
    (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_products(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ListProducts>,
) -> Result<Json<ProductPage>, Problem> {
    let limit = PAGE_SIZE.limit(query.limit)?;
    if let Some(barcodes) = &query.barcodes {
        let barcodes = parse_barcodes(barcodes)?;
        let products = store::find_products(&app.db, &barcodes).await.map_err(Problem::of_database)?;
        return Ok(Json(ProductPage { products, corrected: None, next_page: None }));
    }
    let text = query.q.as_deref().unwrap_or_default().trim();
    if let Ok(barcode) = text.parse::<Barcode>() {
        let products = store::find_products(&app.db, &[barcode]).await.map_err(Problem::of_database)?;
        return Ok(Json(ProductPage { products, corrected: None, next_page: None }));
    }
    let invalid = |error: off_events::InvalidValue| Problem::new(CommonCode::InvalidQuery, error.to_string());
    let search = Search::new(text, query.brand.as_deref(), query.category.as_deref()).map_err(invalid)?;
    let page = query.page.unwrap_or(1).max(1);
    let offset = (i64::from(page - 1) * i64::from(limit)).min(MAX_OFFSET);
    // One more than requested, to find out whether there is another page.
    let found = if search.is_empty() {
        let listed = store::list_products(&app.db, i64::from(limit) + 1, offset).await;
        listed.map(|products| Found { products, corrected: None })
    } else {
        search::find(&app.db, &search, i64::from(limit) + 1, offset).await
    };
    Ok(Json(ProductPage::new(found.map_err(Problem::of_database)?, limit, page)))
}

fn parse_barcodes(text: &str) -> Result<Vec<Barcode>, Problem> {
    let barcodes: Result<Vec<Barcode>, _> = text.split(',').take(101).map(|text| text.trim().parse()).collect();
    let invalid = |detail: String| Problem::new(CommonCode::InvalidQuery, detail);
    let barcodes = barcodes.map_err(|error| invalid(error.to_string()))?;
    if barcodes.len() > 100 { Err(invalid("at most 100 barcodes".to_owned())) } else { Ok(barcodes) }
}

/// Get a product.
#[utoipa::path(get, path = "/api/products/{barcode}", tag = "products", security(()),
    params(("barcode" = String, Path, description = "the barcode", example = "2000000000015")),
    responses(
        (status = 200, description = "the product", body = Product),
        (status = 404, description = "no such product", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn find_product(
    State(app): State<App>,
    ApiPath(barcode): ApiPath<String>,
) -> Result<Json<Product>, Problem> {
    let unknown = || Problem::not_found(format!("there is no product {barcode}"));
    let parsed = barcode.parse::<Barcode>().map_err(|_| unknown())?;
    let found = store::find_products(&app.db, &[parsed]).await.map_err(Problem::of_database)?;
    found.into_iter().next().map(Json).ok_or_else(unknown)
}
