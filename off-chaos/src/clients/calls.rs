//! Requests of the clients, which are repeated until there is a conclusive response.

use super::Shared;
use crate::journal::{Deposit, Outcome, Request};
use off_kit::backoff::Backoff;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{fmt, sync::atomic::Ordering, time::Duration};
use uuid::Uuid;

/// Attempts of a request after the end of the load.
const MAX_ATTEMPTS_WHILE_DRAINING: u32 = 5;

/// A `POST` request.
#[derive(Debug)]
pub(super) struct Call {
    path: String,
    /// Its `Idempotency-Key`, if it needs one.
    key: Option<String>,
    body: Value,
}

/// A response.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    body: Value,
}

impl Call {
    pub(super) fn order(key: &str, request: &Request) -> Self {
        let Request { ssd_id, barcode, quantity } = request;
        let body = json!({"ssd_id": ssd_id, "barcode": barcode, "quantity": quantity});
        Self { path: "/api/orders".to_owned(), key: Some(key.to_owned()), body }
    }

    pub(super) fn deposit(key: &str, Deposit { user, amount }: Deposit) -> Self {
        let path = format!("/api/account/deposits?user_id={user}");
        Self { path, key: Some(key.to_owned()), body: json!({"amount": amount}) }
    }

    pub(super) fn cancellation(order: Uuid) -> Self {
        Self { path: format!("/api/orders/{order}/cancel"), key: None, body: Value::Null }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.key.as_deref().unwrap_or_default())
    }
}

impl Answer {
    /// The outcome of a request that creates something with an id.
    pub(super) fn created(&self) -> Outcome<Uuid> {
        match (self.status, self.body["id"].as_str().map(str::parse)) {
            (StatusCode::CREATED, Some(Ok(id))) => Outcome::Accepted(id),
            _ => self.rejected(),
        }
    }

    /// The outcome of a cancellation.
    pub(super) fn cancelled(&self) -> Outcome<()> {
        match self.status {
            StatusCode::OK => Outcome::Accepted(()),
            // Without the detail, which names the status of the order: a repeated request may find a later one.
            StatusCode::CONFLICT => Outcome::Rejected(self.status.to_string()),
            _ => self.rejected(),
        }
    }

    fn rejected<T>(&self) -> Outcome<T> {
        // A 5xx does not tell whether the request took effect.
        if self.status.is_server_error() {
            return Outcome::Unknown;
        }
        Outcome::Rejected(format!("{} {}", self.status, self.body["detail"]))
    }
}

impl Shared {
    /// Sends a request until there is a conclusive response, or once if it is not retried. `None` without one.
    pub(super) async fn ask(&self, call: &Call, is_retried: bool) -> Option<Answer> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut disconnects = self.disconnects.subscribe();
        let mut attempts_while_draining = 0;
        loop {
            let answer = tokio::select! {
                answer = self.send(call) => answer,
                // Dropping the request closes its connection.
                _ = disconnects.changed() => None,
            };
            if let Some(answer) = answer.filter(|answer| !answer.status.is_server_error()) {
                return Some(answer);
            }
            attempts_while_draining += u32::from(self.is_draining.load(Ordering::Relaxed));
            if !is_retried || attempts_while_draining > MAX_ATTEMPTS_WHILE_DRAINING {
                return None;
            }
            self.journal.lock().retries += 1;
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Sends a request once; `None` without a response.
    pub(super) async fn send(&self, call: &Call) -> Option<Answer> {
        let request = self.client.post(format!("{}{}", self.url, call.path)).bearer_auth(self.tokens.current());
        let request = match &call.key {
            Some(key) => request.header("Idempotency-Key", key).json(&call.body),
            None => request,
        };
        let response = request.send().await.ok()?;
        let status = response.status();
        Some(Answer { status, body: response.json().await.ok()? })
    }
}
