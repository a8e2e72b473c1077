//! `/orders`: the orders of the viewer.

use super::{
    Page,
    failure::Failure,
    layout::{Html, Layout, Section},
    product::{self, Product},
    time,
    viewer::SignedIn,
};
use crate::routes::Upstream;
use askama::Template;
use axum::extract::{Query, State};
use off_events::{Barcode, Order, OrderId, OrderStatus};
use serde::Deserialize;
use std::collections::HashMap;
use url::form_urlencoded::Serializer;

/// Orders per page.
const PAGE: u32 = 50;

#[derive(Debug, Template)]
#[template(path = "order_list.html")]
pub(super) struct OrdersPage {
    layout: Layout,
    orders: Vec<Order>,
    products: HashMap<Barcode, Product>,
    filter: Filter,
    /// The query of the next page.
    next: Option<String>,
}

/// Which orders are shown. The fields are texts, because an empty one of a form means all.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Filter {
    #[serde(default)]
    status: String,
    #[serde(default)]
    ssd_id: String,
    #[serde(default)]
    cursor: String,
}

/// A page of orders, as the orders service answers.
#[derive(Debug, Deserialize)]
struct Orders {
    orders: Vec<Order>,
    next_cursor: Option<OrderId>,
}

impl Filter {
    /// The query for the page after `cursor`, without fields that are empty.
    fn query(&self, cursor: &str) -> String {
        let mut query = Serializer::new(String::new());
        for (name, value) in [("status", self.status.as_str()), ("ssd_id", &self.ssd_id), ("cursor", cursor)] {
            if !value.is_empty() {
                query.append_pair(name, value.trim());
            }
        }
        query.finish()
    }
}

/// `GET /orders`.
pub(super) async fn list(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Query(filter): Query<Filter>,
) -> Result<Html<OrdersPage>, Failure> {
    let path = format!("/api/orders?limit={PAGE}&{}", filter.query(&filter.cursor));
    let Orders { orders, next_cursor } = page.services.get(&caller, Upstream::Orders, &path).await?;
    let next = next_cursor.map(|cursor| filter.query(&cursor.to_string()));
    let products = product::find(&page.services, &caller, orders.iter().map(|order| &order.barcode)).await;
    Ok(Html(OrdersPage { layout: Layout::new(&caller, Section::Orders), orders, products, filter, next }))
}

impl OrdersPage {
    /// The name of a product, or its barcode.
    fn name<'a>(&'a self, barcode: &'a Barcode) -> &'a str {
        self.products.get(barcode).map_or(barcode.as_str(), |product| &product.name)
    }
}

/// The end of an id, which differs most.
fn short(id: &OrderId) -> String {
    let text = id.to_string();
    text.get(text.len().saturating_sub(8)..).unwrap_or(&text).to_owned()
}
