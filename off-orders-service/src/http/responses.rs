//! The bodies of responses.

use crate::domain;
use chrono::{DateTime, Utc};
use off_events::{Order, OrderId, OrderStatus};
use off_kit::http::cut_page;
use serde::Serialize;
use utoipa::ToSchema;

/// An order with its history.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderWithHistory {
    #[serde(flatten)]
    order: Order,
    /// The `Idempotency-Key` of the request that placed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    /// Each status that the order has reached, oldest first.
    history: Vec<Step>,
    /// Each time when its status was announced again because the order was overdue, oldest first; the last 20 at most.
    announced_again: Vec<Step>,
}

/// A status that an order reached, and when.
#[derive(Debug, Serialize, ToSchema)]
struct Step {
    status: OrderStatus,
    at: DateTime<Utc>,
}

impl From<domain::OrderWithHistory> for OrderWithHistory {
    fn from(order: domain::OrderWithHistory) -> Self {
        let steps = |steps: Vec<domain::Step>| steps.into_iter().map(|domain::Step { status, at }| Step { status, at });
        Self {
            order: order.order,
            idempotency_key: order.idempotency_key,
            history: steps(order.history).collect(),
            announced_again: steps(order.announced_again).collect(),
        }
    }
}

/// A page of orders, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderPage {
    orders: Vec<Order>,
    /// The `cursor` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<OrderId>,
}

impl OrderPage {
    /// The first `limit` of `orders`, which have one more than that if there is another page.
    pub(super) fn new(mut orders: Vec<Order>, limit: u32) -> Self {
        let next_cursor = cut_page(&mut orders, limit, |order| order.id);
        Self { orders, next_cursor }
    }
}
