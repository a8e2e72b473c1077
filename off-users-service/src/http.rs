//! HTTP routes and handlers.

mod consumptions;
mod devices;
mod people;
mod registrations;
mod responses;
mod shelf_history;
mod shelf_items;

use crate::App;
use axum::http::{HeaderName, HeaderValue, header};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Keeps an answer with keys or tokens out of caches.
const NO_STORE: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(registrations::create_registration))
        .routes(routes!(people::find_user, people::change_user))
        .routes(routes!(devices::list_devices, devices::create_device))
        .routes(routes!(devices::find_device))
        .routes(routes!(consumptions::create_consumptions))
        .routes(routes!(shelf_items::change_shelf_item))
        .routes(routes!(shelf_history::find_history))
        .routes(routes!(shelf_history::find_delivery))
}
