//! The page: what browsers see. It is rendered here, works without scripts, and does nothing that the documented APIs do not
//! offer to everybody.

mod assets;
mod compression;
mod failure;
mod form;
mod layout;
mod orders;
mod services;
mod sign_in;
mod system;
mod time;
mod viewer;

pub(crate) use failure::Failure;
pub(crate) use services::ServiceApis;
pub(crate) use viewer::{Caller, Viewer};

use crate::live::Live;
use axum::{Router, middleware, routing::get};

/// What pages are made of.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) services: ServiceApis,
    pub(crate) live: Live,
}

impl Page {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/", get(system::show))
            .route("/sign-in", get(sign_in::show_sign_in).post(sign_in::sign_in))
            .route("/sign-out", axum::routing::post(sign_in::sign_out))
            .route("/register", get(sign_in::show_register).post(sign_in::register))
            .route("/orders", get(orders::list))
            .route("/orders/{id}", get(orders::show))
            .layer(form::LIMIT)
            .layer(middleware::from_fn_with_state(self.clone(), layout::finish))
            .layer(middleware::from_fn(compression::compress))
            .route("/assets/{file}", get(assets::find))
            .with_state(self)
    }
}
