//! HTTP routes and handlers.

mod cancellation;
mod counts;
mod messages;
mod products;
mod responses;
mod wait;

use crate::{
    App,
    codes::Code,
    domain::NewOrder,
    intake::IntakeError,
    store::{self, Filter},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{AppendHeaders, IntoResponse},
};
use off_events::{Order, OrderId, OrderStatus, SsdId};
use off_kit::{
    auth::RowAccess,
    http::{ApiJson, ApiPath, ApiQuery, IdempotencyKey, PageSize, Problem},
};
use responses::{OrderPage, OrderWithHistory};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use wait::{Wait, WaitTime};

/// Orders per page.
const PAGE_SIZE: PageSize = PageSize { default: 50, max: 500 };

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_order, list_orders))
        .routes(routes!(counts::count_orders))
        .routes(routes!(find_order))
        .routes(routes!(cancellation::cancel_order))
        .routes(routes!(messages::list_messages))
        .routes(routes!(products::list_products))
        .routes(routes!(products::find_product))
}

/// Place an order; it starts as `pending`.
///
/// Its price is fixed now. The billing service then charges the account of the person who owns the device: the order
/// becomes `paid`, or `refused` if there is too little money.
///
/// With an `Idempotency-Key` the request can be retried until a response arrives: the order is placed once, and every
/// retry returns the first response. A key belongs to the device that the order is for, and is kept as long as the
/// order.
#[utoipa::path(post, path = "/api/orders", tag = "orders", request_body = NewOrder,
    security(("token" = ["person"]), ("token" = ["device"]), ("token" = ["simulate"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses(
        (status = 201, description = "the order was placed", body = Order,
            headers(("Location" = String, description = "path of the order"))),
        (status = 400, description = "the body is not valid JSON, or more than one Idempotency-Key", body = Problem),
        (status = 409, description = "the order has another price than `expected_total`", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON, or the body is compressed", body = Problem),
        (status = 422, body = Problem,
            description = "an invalid field, an unknown device or product, or a key that was used for another order"),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
async fn create_order(
    State(app): State<App>,
    access: RowAccess,
    key: Option<IdempotencyKey>,
    ApiJson(new): ApiJson<NewOrder>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Order>), Problem> {
    let draft = new.validate(app.clock.now()).map_err(Problem::invalid)?;
    let order = app.intake.place(draft, key, access).await?;
    let location = format!("/api/orders/{}", order.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(order)))
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::UnknownReference(errors) => Self::invalid(errors),
            IntakeError::KeyReused => {
                let detail = "this Idempotency-Key was used for another order; a new order takes a new key";
                Self::new(Code::IdempotencyKeyReused, detail)
            }
            IntakeError::PriceChanged(total) => {
                let detail = format!("the order costs {total}; repeat it with this expected_total, or without one");
                Self::new(Code::PriceChanged, detail)
            }
            IntakeError::Overloaded => Self::unavailable("more orders arrive than can be stored; try again"),
            IntakeError::Unavailable => Self::unavailable("the database does not answer; try again"),
            IntakeError::Race => Self::unavailable("the device or product was just added; try again"),
            IntakeError::ClocksDisagree => Self::unavailable("no order can be placed now; try again later"),
            IntakeError::Internal => Self::internal(),
        }
    }
}

/// How long to wait for an order.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct FindOrder {
    /// How long to wait until the order is no longer `pending`: up to 5 s, like `5s`, `500ms` or whole seconds.
    #[param(value_type = Option<String>, example = "5s")]
    wait: Option<WaitTime>,
}

/// Get an order and its history.
///
/// With `wait`, or with the header `Prefer: wait=5` (seconds), the answer comes as soon as the order is no longer
/// `pending`, and at the latest after that time, with the order as it is then. It comes at once if too many requests
/// wait already, and earlier if the service stops.
#[utoipa::path(get, path = "/api/orders/{id}", tag = "orders",
    security(("token" = ["person"]), ("token" = ["device"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    params(("id" = OrderId, Path, description = "the order"), FindOrder,
        ("Prefer" = Option<String>, Header, description = "`wait=5`, RFC 7240; a longer time is shortened to 5 s")),
    responses(
        (status = 200, description = "the order", body = OrderWithHistory,
            headers(("Preference-Applied" = Option<String>, description = "`wait=5`, if `Prefer` was honored"))),
        (status = 400, description = "an invalid wait", body = Problem),
        (status = 404, description = "no such order", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
async fn find_order(
    State(app): State<App>,
    access: RowAccess,
    ApiPath(id): ApiPath<Uuid>,
    ApiQuery(query): ApiQuery<FindOrder>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let find = async || {
        let order = store::find_order(&app.db, OrderId(id), access).await.map_err(Problem::of_database)?;
        order.ok_or_else(|| no_such_order(id))
    };
    let mut order = find().await?;
    let mut applied = None;
    if let Some(wait) = Wait::of(query.wait, &headers)
        && let Some(mut poll) = app.long_polls.begin(wait.time())
    {
        applied = wait.applied();
        while order.order.status == OrderStatus::Pending && poll.pause().await {
            order = find().await?;
        }
    }
    Ok((AppendHeaders(applied), Json(OrderWithHistory::from(order))))
}

fn no_such_order(id: Uuid) -> Problem {
    Problem::not_found(format!("there is no order {id}"))
}

/// Which orders to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListOrders {
    /// Only orders with this status.
    status: Option<OrderStatus>,
    /// Only orders for this device.
    ssd_id: Option<i64>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<Uuid>,
    /// Orders per page, 1 to 500; default 50.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// List orders, newest first, in pages: a person's own, a device's own, or all for an operator.
#[utoipa::path(get, path = "/api/orders", tag = "orders", params(ListOrders),
    security(("token" = ["person"]), ("token" = ["device"]), ("token" = ["operate"])),
    responses(
        (status = 200, description = "a page of orders", body = OrderPage),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
async fn list_orders(
    State(app): State<App>,
    access: RowAccess,
    ApiQuery(query): ApiQuery<ListOrders>,
) -> Result<Json<OrderPage>, Problem> {
    let limit = PAGE_SIZE.limit(query.limit)?;
    let filter = Filter {
        status: query.status,
        ssd_id: query.ssd_id.map(SsdId),
        before: query.cursor.map(OrderId),
        // One more than requested, to find out whether there is another page.
        limit: limit + 1,
    };
    let orders = match access {
        RowAccess::Person(id) => store::list_orders_of_person(&app.db, id, &filter).await,
        RowAccess::Device(id) if filter.ssd_id.is_some_and(|asked| asked != id) => Ok(Vec::new()),
        RowAccess::Device(id) => store::list_orders(&app.db, &Filter { ssd_id: Some(id), ..filter }).await,
        RowAccess::All => store::list_orders(&app.db, &filter).await,
        // The route does not allow the scope.
        RowAccess::Simulated => Ok(Vec::new()),
    };
    let orders = orders.map_err(Problem::of_database)?;
    Ok(Json(OrderPage::new(orders, limit)))
}
