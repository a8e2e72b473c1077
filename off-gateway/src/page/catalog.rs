//! `/catalog` and `/catalog/{barcode}`: the products that can be ordered.

use super::{
    Page,
    failure::Failure,
    form::{Form, new_key},
    layout::{Html, Layout, Section},
    product::{self, Found, GRADES, Product},
    texts,
    viewer::{Caller, SignedIn},
};
use crate::routes::Upstream;
use askama::Template;
use axum::{
    extract::{Path, Query, State},
    response::{IntoResponse, Redirect, Response},
};
use off_events::{Barcode, Order, SsdId};
use serde::Deserialize;
use serde_json::json;
use url::form_urlencoded::Serializer;

#[derive(Debug, Template)]
#[template(path = "catalog.html")]
pub(super) struct CatalogPage {
    layout: Layout,
    search: Search,
    found: Found,
    has_photos: bool,
}

/// What is searched for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
    #[serde(default)]
    brand: String,
    #[serde(default)]
    category: String,
    #[serde(default)]
    page: Option<u32>,
}

impl Search {
    /// The query for a page of the results, without fields that are empty.
    fn query(&self, page: Option<u32>) -> String {
        let mut query = Serializer::new(String::new());
        for (name, value) in [("q", &self.q), ("brand", &self.brand), ("category", &self.category)] {
            if !value.trim().is_empty() {
                query.append_pair(name, value.trim());
            }
        }
        if let Some(page) = page {
            query.append_pair("page", &page.to_string());
        }
        query.finish()
    }

    fn is_filtered(&self) -> bool {
        !self.brand.is_empty() || !self.category.is_empty()
    }
}

impl CatalogPage {
    /// The query of the next page.
    fn next(&self) -> Option<String> {
        self.found.next_page.map(|page| self.search.query(Some(page)))
    }
}

/// `GET /catalog`.
pub(super) async fn list(
    State(page): State<Page>,
    caller: Caller,
    Query(search): Query<Search>,
) -> Result<Html<CatalogPage>, Failure> {
    let path = format!("/api/products?{}", search.query(search.page));
    let found = page.services.get(&caller, Upstream::Orders, &path).await?;
    let layout = Layout::new(&caller, Section::Catalog);
    Ok(Html(CatalogPage { layout, search, found, has_photos: page.has_photos }))
}

#[derive(Debug, Template)]
#[template(path = "product.html")]
pub(super) struct ProductPage {
    layout: Layout,
    product: Product,
    /// Of the viewer, to order for.
    devices: Vec<Device>,
    units: String,
    error: String,
    has_photos: bool,
}

#[derive(Debug, Deserialize)]
struct Device {
    ssd_id: SsdId,
    mac_address: String,
}

#[derive(Debug, Default, Deserialize)]
struct Devices {
    devices: Vec<Device>,
}

/// `GET /catalog/{barcode}`.
pub(super) async fn show(
    State(page): State<Page>,
    caller: Caller,
    Path(barcode): Path<String>,
) -> Result<Html<ProductPage>, Failure> {
    product_page(&page, &caller, &parse(&barcode)?, "1".to_owned(), String::new()).await
}

async fn product_page(
    page: &Page,
    caller: &Caller,
    barcode: &Barcode,
    units: String,
    error: String,
) -> Result<Html<ProductPage>, Failure> {
    let product = page.services.get(caller, Upstream::Orders, &format!("/api/products/{}", barcode.as_str())).await?;
    let devices: Devices = match caller.person() {
        Some(_) => page.services.get(caller, Upstream::Users, "/api/devices").await?,
        None => Devices::default(),
    };
    let layout = Layout::new(caller, Section::Catalog);
    Ok(Html(ProductPage { layout, product, devices: devices.devices, units, error, has_photos: page.has_photos }))
}

/// `POST /catalog/{barcode}/order`.
pub(super) async fn order(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Path(barcode): Path<String>,
    form: Form,
) -> Result<Response, Failure> {
    let barcode = parse(&barcode)?;
    let number = |name| form.get(name).trim().parse::<i64>().ok();
    let body = json!({"ssd_id": number("ssd_id"), "barcode": barcode.as_str(), "quantity": number("quantity")});
    let placed: Result<Order, _> =
        page.services.post_once(&caller, Upstream::Orders, "/api/orders", &body, form.get("key")).await;
    match placed {
        Ok(order) => Ok(Redirect::to(&format!("/orders/{}", order.id)).into_response()),
        Err(failure) if failure.status.is_client_error() => {
            let units = form.get("quantity").to_owned();
            let shown = product_page(&page, &caller, &barcode, units, failure.in_words()).await?;
            Ok((failure.status, shown).into_response())
        }
        Err(failure) => Err(failure.with_form(format!("/catalog/{}/order", barcode.as_str()), &form)),
    }
}

fn parse(barcode: &str) -> Result<Barcode, Failure> {
    barcode.parse().map_err(|_| Failure::not_found(texts::no_product(barcode)))
}
