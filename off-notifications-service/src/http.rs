//! HTTP routes and handlers.

mod letters;
mod preferences;
mod responses;

use crate::App;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(letters::list_letters))
        .routes(routes!(letters::find_letter))
        .routes(routes!(letters::mark_read))
        .routes(routes!(preferences::find_preferences, preferences::update_preferences))
}
