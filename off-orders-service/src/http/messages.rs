//! The messages of an order.

use super::no_such_order;
use crate::{App, messages, store};
use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use off_events::{OrderId, streams::ORDERS};
use off_kit::{
    auth::RowAccess,
    bus::StoredMessage,
    http::{ApiPath, Problem},
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;
use tracing::warn;
use utoipa::ToSchema;
use uuid::Uuid;

/// Timeout for all reads of one request.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The messages of an order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderMessages {
    /// Oldest first.
    messages: Vec<OrderMessage>,
}

/// A message as its stream holds it.
#[derive(Debug, Serialize, ToSchema)]
struct OrderMessage {
    #[schema(example = json!(ORDERS.name))]
    stream: &'static str,
    /// Its sequence number in the stream.
    sequence: u64,
    subject: String,
    /// When the broker stored it.
    stored_at: DateTime<Utc>,
    /// Its headers.
    headers: BTreeMap<String, String>,
    /// Its payload, see the AsyncAPI document.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

impl OrderMessage {
    /// The message; without its payload if that is not JSON.
    fn of(message: StoredMessage) -> Self {
        let StoredMessage { sequence, subject, stored_at, headers, body } = message;
        let headers = headers.into_iter().collect();
        let data = serde_json::from_slice(&body).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Self { stream: ORDERS.name, sequence, subject, stored_at, headers, data }
    }
}

/// Get the messages of an order as the broker holds them.
///
/// These are its events with their headers, the ends of its waits (`orders.due`), and the message schedule of the wait that
/// goes on. The broker keeps messages for seven days, or less if there are very many.
#[utoipa::path(get, path = "/api/orders/{id}/messages", tag = "orders",
    security(("token" = ["person"]), ("token" = ["device"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    params(("id" = OrderId, Path, description = "the order")),
    responses(
        (status = 200, description = "the messages", body = OrderMessages),
        (status = 404, description = "no such order", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_messages(
    State(app): State<App>,
    access: RowAccess,
    ApiPath(id): ApiPath<Uuid>,
) -> Result<Json<OrderMessages>, Problem> {
    let order = store::find_order(&app.db, OrderId(id), access).await.map_err(Problem::of_database)?;
    let order = order.ok_or_else(|| no_such_order(id))?;
    let found = timeout(TIMEOUT, messages::find(&app.bus, &order)).await.map_err(anyhow::Error::from).flatten();
    let found = found.map_err(|error| {
        if let Some(suppressed) = app.reading_failures.admit() {
            warn!(suppressed, "the messages of order {id} cannot be read: {error:#}");
        }
        Problem::unavailable("the broker does not answer; try again")
    })?;
    Ok(Json(OrderMessages { messages: found.into_iter().map(OrderMessage::of).collect() }))
}
