//! The page: what browsers see. It is rendered here, works without scripts, and does nothing that the documented APIs do not
//! offer to everybody.

mod account;
mod assets;
mod catalog;
mod compression;
mod failure;
mod form;
mod layout;
mod operator;
mod order;
mod orders;
mod product;
mod services;
mod shelves;
mod sign_in;
mod system;
mod texts;
mod time;
mod viewer;

pub(crate) use failure::Failure;
pub(crate) use layout::{is_wanted, show_problem};
pub(crate) use services::ServiceApis;
pub(crate) use viewer::{Caller, Viewer};

use crate::live::Live;
use axum::{
    Router, middleware,
    routing::{get, post},
};
use std::sync::Arc;

/// What pages are made of.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) services: ServiceApis,
    pub(crate) live: Live,
    /// Where a trace can be seen, with `{trace_id}` in place of its id.
    pub(crate) trace_url: Option<Arc<str>>,
    /// Whether pages show the photos of products, which browsers load from Open Food Facts.
    pub(crate) has_photos: bool,
}

impl Page {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/", get(system::show))
            .route("/sign-in", get(sign_in::show_sign_in).post(sign_in::sign_in))
            .route("/sign-out", post(sign_in::sign_out))
            .route("/register", get(sign_in::show_register).post(sign_in::register))
            .route("/orders", get(orders::list))
            .route("/orders/{id}", get(order::show))
            .route("/orders/{id}/cancel", post(order::cancel))
            .route("/shelves", get(shelves::list).post(shelves::add))
            .route("/devices/{id}", get(shelves::show))
            .route("/devices/{id}/order", post(shelves::order))
            .route("/devices/{id}/take", post(shelves::take))
            .route("/devices/{id}/shelf", post(shelves::change))
            .route("/catalog", get(catalog::list))
            .route("/catalog/{barcode}", get(catalog::show))
            .route("/catalog/{barcode}/order", post(catalog::order))
            .route("/account", get(account::show))
            .route("/account/{kind}", post(account::pay))
            .route("/account/profile", post(account::change_profile))
            .route("/account/password", post(account::change_password))
            .route("/account/letters/{id}/read", post(account::mark_read))
            .route("/account/sessions/{id}/end", post(account::end_session))
            .merge(operator::router())
            .layer(form::LIMIT)
            .layer(middleware::from_fn(layout::finish))
            .layer(middleware::from_fn(compression::compress))
            .route("/assets/{file}", get(assets::find))
            .with_state(self)
    }
}
