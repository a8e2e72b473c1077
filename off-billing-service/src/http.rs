//! HTTP routes and handlers.

mod account;
mod payments;
mod responses;

use crate::{App, codes::Code, payment::PaymentError, store};
use off_events::UserId;
use off_kit::{auth::no_such_person, http::Problem};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(account::find_account))
        .routes(routes!(account::list_transfers))
        .routes(routes!(payments::create_deposit))
        .routes(routes!(payments::create_withdrawal))
        .routes(routes!(payments::create_reversal))
}

/// Whose account.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Owner {
    /// The person. People may leave it out: it is themselves.
    user_id: Option<i64>,
}

/// 404 for a person who does not exist, or is not simulated although they must be.
async fn require_person(app: &App, user: UserId, simulated: Option<bool>) -> Result<(), Problem> {
    let exists = store::is_person(&app.db, user, simulated).await.map_err(Problem::of_database)?;
    if exists { Ok(()) } else { Err(no_such_person(user.0)) }
}

impl From<PaymentError> for Problem {
    fn from(error: PaymentError) -> Self {
        let detail = error.to_string();
        match error {
            PaymentError::KeyReused => Self::new(Code::IdempotencyKeyReused, detail),
            PaymentError::InsufficientFunds(_) => Self::new(Code::InsufficientFunds, detail),
            PaymentError::BalanceTooHigh => Self::new(Code::BalanceTooHigh, detail),
            PaymentError::Unknown(_) => Self::not_found(detail),
            PaymentError::Database(error) => Self::of_database(error),
        }
    }
}
