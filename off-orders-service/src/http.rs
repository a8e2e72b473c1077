//! Its routes and handlers.

use crate::{
    App,
    domain::{IdempotencyKey, NewOrder, OrderWithHistory},
    store::{self, Filter},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use off_events::{Order, OrderId, OrderStatus, SsdId};
use off_kit::{
    fields::FieldError,
    http::{ApiJson, ApiPath, ApiQuery, Problem},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// Orders on a page unless asked for fewer or more.
const PAGE: u32 = 50;
/// The most orders on a page.
const LARGEST_PAGE: u32 = 500;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create_order, list_orders)).routes(routes!(find_order))
}

/// Place an order; it starts as `pending`.
///
/// With an `Idempotency-Key` the request can be repeated until an answer arrives: the order is placed once, and every
/// repetition gets the first answer. A key belongs to the device that the order is for, and is kept as long as the order.
#[utoipa::path(post, path = "/api/orders", tag = "orders", request_body = NewOrder,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses(
        (status = 201, description = "placed", body = Order, headers(("Location" = String, description = "the order"))),
        (status = 400, description = "not JSON, or more than one Idempotency-Key", body = Problem),
        (status = 413, description = "larger than 64 KiB", body = Problem),
        (status = 415, description = "not sent as JSON", body = Problem),
        (status = 422, description = "a wrong field, an unknown device or product, a key used for another order",
            body = Problem),
        (status = 503, description = "not now; Retry-After says when", body = Problem)))]
async fn create_order(
    State(app): State<App>,
    headers: HeaderMap,
    ApiJson(new): ApiJson<NewOrder>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Order>), Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let key = keys.next().map(|value| IdempotencyKey::try_from(value.as_bytes())).transpose();
    let key = key.map_err(|error| Problem::invalid(vec![FieldError::new("Idempotency-Key", &error)]))?;
    if keys.next().is_some() {
        let detail = "a request has one Idempotency-Key at the most";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "repeated_idempotency_key", detail));
    }
    let order = new.place(app.clock.now()).map_err(Problem::invalid)?;
    let order = app.intake.place(order, key).await?;
    let location = format!("/api/orders/{}", order.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(order)))
}

/// An order and its history.
#[utoipa::path(get, path = "/api/orders/{id}", tag = "orders",
    params(("id" = OrderId, Path, description = "the order")),
    responses(
        (status = 200, description = "the order", body = OrderWithHistory),
        (status = 404, description = "no such order", body = Problem),
        (status = 503, description = "not now; Retry-After says when", body = Problem)))]
async fn find_order(State(app): State<App>, ApiPath(id): ApiPath<Uuid>) -> Result<Json<OrderWithHistory>, Problem> {
    let order = store::find_order(&app.db, OrderId(id)).await?;
    order.map(Json).ok_or_else(|| Problem::not_found(format!("there is no order {id}")))
}

/// Which orders to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListOrders {
    /// Only orders in this state.
    status: Option<OrderStatus>,
    /// Only orders for this device.
    ssd_id: Option<i64>,
    /// Where the page before ended: its `next_cursor`.
    #[param(value_type = Option<String>)]
    cursor: Option<Uuid>,
    /// Orders on a page, 1 to 500; 50 unless said otherwise.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// A page of orders, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct OrderPage {
    orders: Vec<Order>,
    /// The `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<OrderId>,
}

/// Orders, newest first, page by page.
#[utoipa::path(get, path = "/api/orders", tag = "orders", params(ListOrders),
    responses(
        (status = 200, description = "a page of orders", body = OrderPage),
        (status = 400, description = "a parameter that is not understood", body = Problem),
        (status = 503, description = "not now; Retry-After says when", body = Problem)))]
async fn list_orders(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ListOrders>,
) -> Result<Json<OrderPage>, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_query", "limit: a number from 1 to 500"));
    }
    let filter = Filter {
        status: query.status,
        ssd_id: query.ssd_id.map(SsdId),
        before: query.cursor.map(OrderId),
        // One more than asked for tells whether there is another page.
        limit: limit + 1,
    };
    let mut orders = store::list_orders(&app.db, &filter).await?;
    let more = orders.len() > limit as usize;
    orders.truncate(limit as usize);
    let next_cursor = orders.last().filter(|_| more).map(|order| order.id);
    Ok(Json(OrderPage { orders, next_cursor }))
}
