//! `/orders/{id}`: the whole story of an order.

mod story;

use super::{
    Page,
    failure::Failure,
    form::Form,
    layout::{Html, Layout, Section},
    product::{self, Product},
    texts, time,
    viewer::SignedIn,
};
use crate::routes::Upstream;
use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use off_events::{Order, OrderStatus, Refusal};
use serde_json::{Value, json};
use story::{Delivery, Entry, Letter, Message, OrderFacts, Step, Story, Transfer};
use uuid::Uuid;

/// For so long after its end the page waits for what follows from it.
const TAIL: TimeDelta = TimeDelta::minutes(2);

#[derive(Debug, Template)]
#[template(path = "order_story.html")]
pub(super) struct OrderPage {
    layout: Layout,
    order: Order,
    product: Option<Product>,
    steps: Vec<StepOnPage>,
    entries: Vec<Entry>,
    /// Whether it was cancelled and charged, and not refunded yet.
    is_refund_due: bool,
    /// Services whose part of the story is missing now.
    missing: Vec<&'static str>,
    now: DateTime<Utc>,
    /// Why an attempt to cancel it failed.
    error: String,
    /// The address of this page. An operator has one of their own, without what is private.
    path: String,
    is_own: bool,
}

/// A status on the way of an order.
#[derive(Debug)]
struct StepOnPage {
    status: OrderStatus,
    step: Option<Step>,
    is_current: bool,
}

/// `GET /orders/{id}`.
pub(super) async fn show(
    State(page): State<Page>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> Result<Html<OrderPage>, Failure> {
    story_page(&page, &signed_in, parse(&id)?, String::new(), true).await
}

/// `GET /operator/orders/{id}`: the order of anybody, for an operator.
pub(super) async fn show_any(
    State(page): State<Page>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> Result<Html<OrderPage>, Failure> {
    story_page(&page, &signed_in, parse(&id)?, String::new(), false).await
}

async fn story_page(
    page: &Page,
    SignedIn(caller, _): &SignedIn,
    id: Uuid,
    error: String,
    is_own: bool,
) -> Result<Html<OrderPage>, Failure> {
    let services = &page.services;
    let messages = format!("/api/orders/{id}/messages");
    let transfers = format!("/api/account/transfers?order_id={id}");
    let letters = format!("/api/letters?order_id={id}");
    let order = format!("/api/orders/{id}");
    let (order, messages, transfers, letters) = tokio::join!(
        services.get::<OrderFacts>(caller, Upstream::Orders, &order),
        services.get::<story::Messages>(caller, Upstream::Orders, &messages),
        services.get::<story::Transfers>(caller, Upstream::Billing, &transfers),
        services.get::<story::Letters>(caller, Upstream::Notifications, &letters),
    );
    let facts = order?;
    let mut missing = Vec::new();
    let delivery = format!("/api/devices/{}/deliveries/{id}", facts.order.ssd_id);
    let delivery: Option<Delivery> = match services.get(caller, Upstream::Users, &delivery).await {
        Ok(delivery) => Some(delivery),
        Err(failure) => {
            if is_own && failure.status != StatusCode::NOT_FOUND {
                missing.push(texts::USERS_SERVICE);
            }
            None
        }
    };
    let messages: Vec<Message> = part(messages, texts::BROKER, &mut missing).messages;
    let transfers: Vec<Transfer> = part(transfers, texts::BILLING_SERVICE, &mut missing).transfers;
    let letters: Vec<Letter> = part(letters, texts::NOTIFICATIONS_SERVICE, &mut missing).letters;
    let has = |kind| transfers.iter().any(|transfer| transfer.is(kind));
    let is_refund_due = facts.order.status == OrderStatus::Cancelled && has("charge") && !has("refund");
    let steps = steps(&facts, &messages);
    let order = facts.order.clone();
    let product = product::find(services, caller, std::iter::once(&order.barcode)).await.remove(&order.barcode);
    let trace = page.trace_url.as_deref();
    let entries = Story { facts, messages, transfers, letters, delivery }.entries(trace);
    Ok(Html(OrderPage {
        layout: Layout::new(caller, if is_own { Section::Orders } else { Section::Operator }),
        path: format!("{}/orders/{id}", if is_own { "" } else { "/operator" }),
        is_own,
        order,
        product,
        steps,
        entries,
        is_refund_due,
        missing,
        now: page.live.now(),
        error,
    }))
}

/// A part of the story; nothing if its service does not answer.
fn part<T: Default>(answer: Result<T, Failure>, who: &'static str, missing: &mut Vec<&'static str>) -> T {
    answer.unwrap_or_else(|_| {
        missing.push(who);
        T::default()
    })
}

/// `POST /orders/{id}/cancel`.
pub(super) async fn cancel(
    State(page): State<Page>,
    signed_in: SignedIn,
    Path(id): Path<String>,
    _: Form,
) -> Result<Response, Failure> {
    let id = parse(&id)?;
    let path = format!("/api/orders/{id}/cancel");
    let cancelled: Result<Value, _> = page.services.post(&signed_in.0, Upstream::Orders, &path, &json!({})).await;
    match cancelled {
        Ok(_) => Ok(Redirect::to(&format!("/orders/{id}")).into_response()),
        Err(failure) if failure.status.is_client_error() => {
            let shown = story_page(&page, &signed_in, id, failure.text(), true).await?;
            Ok((failure.status, shown).into_response())
        }
        Err(failure) => Err(failure),
    }
}

fn parse(id: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(id).map_err(|_| Failure::not_found(texts::no_order(id)))
}

/// The statuses of the order, those before it, and those that it may still reach.
fn steps(facts: &OrderFacts, messages: &[Message]) -> Vec<StepOnPage> {
    let status = facts.order.status;
    let way: &[OrderStatus] = match status {
        OrderStatus::Refused => &[OrderStatus::Pending, OrderStatus::Refused],
        OrderStatus::Cancelled => &[OrderStatus::Pending, OrderStatus::Paid, OrderStatus::Cancelled],
        _ => &[OrderStatus::Pending, OrderStatus::Paid, OrderStatus::Shipped, OrderStatus::Completed],
    };
    let reached = |step: &Step| Step { at: Message::reached(messages, step), ..*step };
    let step = |status| facts.history.iter().find(|step| step.status == status).map(reached);
    let on_page =
        |wanted: &OrderStatus| StepOnPage { status: *wanted, step: step(*wanted), is_current: *wanted == status };
    // An order that was cancelled before it was paid was never paid.
    let is_shown = |wanted: &&OrderStatus| {
        status != OrderStatus::Cancelled || **wanted != OrderStatus::Paid || step(OrderStatus::Paid).is_some()
    };
    way.iter().filter(is_shown).map(on_page).collect()
}

impl OrderPage {
    fn can_cancel(&self) -> bool {
        self.is_own && matches!(self.order.status, OrderStatus::Pending | OrderStatus::Paid)
    }

    /// Whether something may still happen.
    fn is_open(&self) -> bool {
        let has_letter = self.entries.iter().any(|entry| entry.is_last_letter);
        let is_on_shelf = self.entries.iter().any(|entry| entry.kind == "shelf");
        let is_done = !self.is_own
            || has_letter
                && match self.order.status {
                    OrderStatus::Completed => is_on_shelf,
                    _ => !self.is_refund_due,
                };
        // What is still missing long after the end will not come.
        let is_recent = self.steps.iter().filter_map(|step| step.step).any(|step| self.now - step.at < TAIL);
        !self.has_ended() || ((!is_done || !self.missing.is_empty()) && is_recent)
    }

    /// Whether the order has its last status. What still follows, like its letter, is no event of the order.
    fn has_ended(&self) -> bool {
        matches!(self.order.status, OrderStatus::Completed | OrderStatus::Refused | OrderStatus::Cancelled)
    }

    fn missing_money(&self) -> Option<String> {
        match self.order.refusal? {
            Refusal::InsufficientFunds { missing } => Some(missing.to_string()),
        }
    }
}
