//! `/shelves` and `/devices/{id}`: the devices of the viewer and what is on their shelves.

mod chart;

use super::{
    Page,
    failure::Failure,
    form::{Form, new_key},
    layout::{Html, Layout, Section},
    product::{self, Product},
    sign_in, texts, time,
    viewer::{Caller, SignedIn},
};
use crate::routes::Upstream;
use askama::Template;
use axum::{
    extract::{Path, State},
    http::Method,
    response::{IntoResponse, Redirect, Response},
};
use chart::Chart;
use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use off_events::{Barcode, Order, OrderStatus, SsdId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// How many devices the overview shows with their shelves.
const SHOWN: usize = 20;

/// How many of the latest orders of a device are looked at for what is on its way.
const LATEST: u32 = 200;

/// A device and its shelf, as the users service answers.
#[derive(Debug, Deserialize)]
struct Device {
    ssd_id: SsdId,
    mac_address: String,
    shelf: Vec<ShelfItem>,
}

/// A product on a shelf.
#[derive(Debug, Deserialize)]
struct ShelfItem {
    barcode: Barcode,
    name: String,
    quantity: i64,
    reorder_point: i64,
    is_paused: bool,
    low_since: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
struct DeviceInList {
    ssd_id: SsdId,
}

#[derive(Debug, Deserialize)]
struct Devices {
    devices: Vec<DeviceInList>,
}

/// The stock of a shelf over time.
#[derive(Debug, Default, Deserialize)]
struct History {
    items: Vec<ItemHistory>,
}

#[derive(Debug, Deserialize)]
struct ItemHistory {
    barcode: Barcode,
    points: Vec<chart::Level>,
}

#[derive(Debug, Deserialize)]
struct Orders {
    orders: Vec<Order>,
}

/// A device that was just added, with its key.
#[derive(Debug, Deserialize)]
struct NewDevice {
    ssd_id: SsdId,
    mac_address: String,
    key: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "shelves.html")]
pub(super) struct ShelvesPage {
    layout: Layout,
    devices: Vec<Device>,
    /// How many devices are not shown.
    others: usize,
    added: Option<NewDevice>,
    mac_address: String,
    error: String,
}

impl ShelvesPage {
    /// Whether nothing was ever on a shelf.
    fn has_nothing(&self) -> bool {
        self.devices.iter().all(|device| device.shelf.is_empty())
    }
}

impl ShelfItem {
    /// What matters most about it.
    fn state(&self) -> &'static str {
        match (self.is_paused, self.low_since, self.quantity) {
            (true, _, _) => "paused",
            (false, _, 0) => "empty",
            (false, Some(_), _) => "low",
            (false, None, _) => "enough",
        }
    }
}

/// `GET /shelves`.
pub(super) async fn list(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
) -> Result<Html<ShelvesPage>, Failure> {
    shelves_page(&page, &caller, None, String::new(), String::new()).await
}

async fn shelves_page(
    page: &Page,
    caller: &Caller,
    added: Option<NewDevice>,
    mac_address: String,
    error: String,
) -> Result<Html<ShelvesPage>, Failure> {
    let Devices { devices } = page.services.get(caller, Upstream::Users, "/api/devices").await?;
    let others = devices.len().saturating_sub(SHOWN);
    let shown = devices.iter().take(SHOWN).map(|device| find_device(page, caller, device.ssd_id));
    let devices = try_join_all(shown).await?;
    let layout = Layout::new(caller, Section::Shelves);
    Ok(Html(ShelvesPage { layout, devices, others, added, mac_address, error }))
}

async fn find_device(page: &Page, caller: &Caller, id: SsdId) -> Result<Device, Failure> {
    page.services.get(caller, Upstream::Users, &format!("/api/devices/{id}")).await
}

/// `POST /shelves`: adds a device by its code.
pub(super) async fn add(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    form: Form,
) -> Result<Response, Failure> {
    let given = form.get("mac_address").trim();
    let mac_address = if given.is_empty() { sign_in::drawn_mac_address() } else { given.to_owned() };
    let body = json!({"mac_address": mac_address});
    let added: Result<NewDevice, _> = page.services.post(&caller, Upstream::Users, "/api/devices", &body).await;
    match added {
        // The key is shown only here, so this is no redirect.
        Ok(device) => {
            let shown = shelves_page(&page, &caller, Some(device), String::new(), String::new()).await?;
            Ok(shown.into_response())
        }
        Err(failure) if failure.status.is_client_error() => {
            let error = failure.in_words();
            let shown = shelves_page(&page, &caller, None, given.to_owned(), error).await?;
            Ok((failure.status, shown).into_response())
        }
        Err(failure) => Err(failure),
    }
}

#[derive(Debug, Template)]
#[template(path = "device.html")]
pub(super) struct DevicePage {
    layout: Layout,
    device: Device,
    products: HashMap<Barcode, Product>,
    charts: HashMap<Barcode, Chart>,
    /// Orders that are under way, newest first; `None` while the orders service does not answer.
    under_way: Option<Vec<Order>>,
    has_photos: bool,
    error: String,
}

impl DevicePage {
    /// The units of a product that are on their way.
    fn on_its_way(&self, barcode: &Barcode) -> String {
        let Some(orders) = &self.under_way else { return "unknown".to_owned() };
        let orders = orders.iter().filter(|order| order.barcode == *barcode);
        orders.map(|order| i64::from(order.quantity.get())).sum::<i64>().to_string()
    }

    fn orders(&self) -> &[Order] {
        self.under_way.as_deref().unwrap_or_default()
    }
}

/// `GET /devices/{id}`.
pub(super) async fn show(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Path(id): Path<String>,
) -> Result<Html<DevicePage>, Failure> {
    device_page(&page, &caller, parse(&id)?, String::new()).await
}

async fn device_page(page: &Page, caller: &Caller, id: SsdId, error: String) -> Result<Html<DevicePage>, Failure> {
    let device = find_device(page, caller, id).await?;
    let history = format!("/api/devices/{id}/history?hours=24&points=96");
    let orders = format!("/api/orders?ssd_id={id}&limit={LATEST}");
    let (history, orders, products) = tokio::join!(
        page.services.get::<History>(caller, Upstream::Users, &history),
        page.services.get::<Orders>(caller, Upstream::Orders, &orders),
        product::find(&page.services, caller, device.shelf.iter().map(|item| &item.barcode)),
    );
    let is_under_way =
        |order: &Order| matches!(order.status, OrderStatus::Pending | OrderStatus::Paid | OrderStatus::Shipped);
    let under_way = orders.ok().map(|orders| orders.orders.into_iter().filter(is_under_way).collect());
    let reorder_points: HashMap<&Barcode, i64> =
        device.shelf.iter().map(|item| (&item.barcode, item.reorder_point)).collect();
    let charts = history.unwrap_or_default().items.into_iter().map(|item| {
        let reorder_point = reorder_points.get(&item.barcode).copied().unwrap_or_default();
        (item.barcode, Chart::new(&item.points, reorder_point))
    });
    let charts = charts.collect();
    let layout = Layout::new(caller, Section::Shelves);
    Ok(Html(DevicePage { layout, device, products, charts, under_way, has_photos: page.has_photos, error }))
}

/// `POST /devices/{id}/order`: orders more of a product.
pub(super) async fn order(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Failure> {
    let id = parse(&id)?;
    let units = form.get("quantity").trim().parse::<i64>().ok();
    let body = json!({"ssd_id": id, "barcode": form.get("barcode"), "quantity": units});
    let placed: Result<Order, _> =
        page.services.post_once(&caller, Upstream::Orders, "/api/orders", &body, form.get("key")).await;
    match placed {
        Ok(order) => Ok(Redirect::to(&format!("/orders/{}", order.id)).into_response()),
        Err(failure) => refuse(&page, &caller, id, failure.with_form(format!("/devices/{id}/order"), &form)).await,
    }
}

/// `POST /devices/{id}/take`: reports units that somebody took.
pub(super) async fn take(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Failure> {
    let id = parse(&id)?;
    let barcode = match barcode_of(&form) {
        Ok(barcode) => barcode,
        Err(failure) => return refuse(&page, &caller, id, failure).await,
    };
    let units = form.get("quantity").trim().parse::<i64>().ok();
    // A report counts once, by its id.
    let report = json!({
        "id": form.get("key"), "barcode": barcode.as_str(), "quantity": units, "timestamp": page.live.now(),
    });
    let path = format!("/api/devices/{id}/consumptions");
    let body = json!({"consumptions": [report]});
    let taken: Result<Value, _> = page.services.post(&caller, Upstream::Users, &path, &body).await;
    match taken {
        Ok(_) => Ok(Redirect::to(&format!("/devices/{id}#{}", barcode.as_str())).into_response()),
        Err(failure) => refuse(&page, &caller, id, failure.with_form(format!("/devices/{id}/take"), &form)).await,
    }
}

/// `POST /devices/{id}/shelf`: changes when a product is reordered, or puts a new one on the shelf.
pub(super) async fn change(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, Failure> {
    let id = parse(&id)?;
    let barcode = match barcode_of(&form) {
        Ok(barcode) => barcode,
        Err(failure) => return refuse(&page, &caller, id, failure).await,
    };
    let point = form.get("reorder_point").trim();
    let body = json!({
        // A field that is no number is refused by the service, with its name.
        "reorder_point": (!point.is_empty()).then(|| point.parse::<i64>().map_or_else(|_| json!(point), |point| json!(point))),
        "is_paused": match form.get("is_paused") { "true" => Some(true), "false" => Some(false), _ => None },
    });
    let path = format!("/api/devices/{id}/shelf/{}", barcode.as_str());
    let changed: Result<Value, _> = page.services.send(&caller, Upstream::Users, Method::PUT, &path, &body).await;
    match changed {
        Ok(_) => Ok(Redirect::to(&format!("/devices/{id}#{}", barcode.as_str())).into_response()),
        Err(failure) => refuse(&page, &caller, id, failure).await,
    }
}

/// Shows the device again, with what is wrong.
async fn refuse(page: &Page, caller: &Caller, id: SsdId, failure: Failure) -> Result<Response, Failure> {
    if !failure.status.is_client_error() {
        return Err(failure);
    }
    let shown = device_page(page, caller, id, failure.in_words()).await?;
    Ok((failure.status, shown).into_response())
}

fn barcode_of(form: &Form) -> Result<Barcode, Failure> {
    form.get("barcode").trim().parse().map_err(|_| Failure::invalid(texts::NO_BARCODE))
}

fn parse(id: &str) -> Result<SsdId, Failure> {
    let number = id.parse().ok().filter(|number: &i64| *number > 0);
    number.map(SsdId).ok_or_else(|| Failure::not_found(texts::no_device(id)))
}
