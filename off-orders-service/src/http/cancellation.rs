//! Cancelling orders.

use super::no_such_order;
use crate::{App, codes::Code, publisher::Committed, store};
use axum::{Json, extract::State};
use off_events::{Order, OrderId, OrderStatus};
use off_kit::{
    auth::RowAccess,
    http::{ApiPath, Problem},
    telemetry,
};
use uuid::Uuid;

/// Cancel an order that is not shipped yet.
///
/// If it was paid, the money goes back to the account. A cancelled order can be cancelled again, without an effect.
#[utoipa::path(post, path = "/api/orders/{id}/cancel", tag = "orders",
    security(("token" = ["person"]), ("token" = ["device"]), ("token" = ["simulate"])),
    params(("id" = OrderId, Path, description = "the order")),
    responses(
        (status = 200, description = "the order is cancelled", body = Order),
        (status = 404, description = "no such order", body = Problem),
        (status = 409, description = "the order is shipped, completed or refused", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn cancel_order(
    State(app): State<App>,
    access: RowAccess,
    ApiPath(id): ApiPath<Uuid>,
) -> Result<Json<Order>, Problem> {
    let cancelled = store::cancel_order(&app.db, OrderId(id), access, app.limits).await;
    let cancelled = cancelled.map_err(Problem::of_database)?;
    let (order, at) = cancelled.ok_or_else(|| no_such_order(id))?;
    if order.status != OrderStatus::Cancelled {
        let detail = format!("order {id} is {}: only a pending or paid order can be cancelled", order.status);
        return Err(Problem::new(Code::NotCancellable, detail));
    }
    if let Some(at) = at {
        let traceparent = telemetry::current_traceparent();
        app.publisher.enqueue(vec![Committed { order: order.clone(), at, traceparent }]).await;
    }
    Ok(Json(order))
}
