//! Deposits, withdrawals and their reversals.

use super::{Owner, require_person, responses};
use crate::{
    App,
    domain::{NewPayment, NewReversal, Payment, PaymentKind},
    payment, store,
};
use axum::{Json, extract::State, http::StatusCode};
use off_kit::{
    auth::{RowAccess, no_such_person},
    http::{ApiJson, ApiQuery, IdempotencyKey, Problem},
};

type Created = (StatusCode, Json<responses::Payment>);

/// Pay money into an account.
///
/// Repeat the request with the same `Idempotency-Key` until there is a response: the money is paid in once. The response
/// to a repeated request has the current balance.
#[utoipa::path(post, path = "/api/account/deposits", tag = "account", request_body = NewPayment,
    security(("token" = ["person"]), ("token" = ["simulate"])),
    params(Owner, ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters")),
    responses(
        (status = 201, description = "the money is in the account", body = responses::Payment),
        (status = 400, description = "the body is not valid JSON, or more than one Idempotency-Key", body = Problem),
        (status = 404, description = "no such person", body = Problem),
        (status = 409, description = "the balance would be too high", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "an invalid field, or a key that was used for another amount", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn create_deposit(
    State(app): State<App>,
    access: RowAccess,
    ApiQuery(query): ApiQuery<Owner>,
    key: IdempotencyKey,
    ApiJson(new): ApiJson<NewPayment>,
) -> Result<Created, Problem> {
    create_payment(&app, PaymentKind::Deposit, access, query, &key, &new).await
}

/// Pay money out of an account.
///
/// Repeat the request with the same `Idempotency-Key` until there is a response: the money is paid out once. The response
/// to a repeated request has the current balance.
#[utoipa::path(post, path = "/api/account/withdrawals", tag = "account", request_body = NewPayment,
    security(("token" = ["person"]), ("token" = ["simulate"])),
    params(Owner, ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters")),
    responses(
        (status = 201, description = "the money was paid out", body = responses::Payment),
        (status = 400, description = "the body is not valid JSON, or more than one Idempotency-Key", body = Problem),
        (status = 402, description = "the account has less money", body = Problem),
        (status = 404, description = "no such person", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "an invalid field, or a key that was used for another amount", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn create_withdrawal(
    State(app): State<App>,
    access: RowAccess,
    ApiQuery(query): ApiQuery<Owner>,
    key: IdempotencyKey,
    ApiJson(new): ApiJson<NewPayment>,
) -> Result<Created, Problem> {
    create_payment(&app, PaymentKind::Withdrawal, access, query, &key, &new).await
}

async fn create_payment(
    app: &App,
    kind: PaymentKind,
    access: RowAccess,
    query: Owner,
    key: &IdempotencyKey,
    new: &NewPayment,
) -> Result<Created, Problem> {
    let amount = new.validate().map_err(Problem::invalid)?;
    let (user, simulated) = access.person(query.user_id)?;
    require_person(app, user, simulated).await?;
    let payment = Payment::new(kind, user, amount, key);
    let balance = payment::pay(app, payment).await?;
    Ok((StatusCode::CREATED, Json(responses::Payment { id: payment.id, amount, balance })))
}

/// Reverse a deposit or a withdrawal, once.
#[utoipa::path(post, path = "/api/account/reversals", tag = "account", request_body = NewReversal,
    security(("token" = ["operate"])),
    responses(
        (status = 200, description = "the account after it", body = responses::Account),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 402, description = "the account has less money than the deposit", body = Problem),
        (status = 404, description = "no such deposit or withdrawal", body = Problem),
        (status = 409, description = "the balance would be too high", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn create_reversal(
    State(app): State<App>,
    ApiJson(new): ApiJson<NewReversal>,
) -> Result<Json<responses::Account>, Problem> {
    let (id, reason) = new.validate().map_err(Problem::invalid)?;
    let user_id = payment::reverse(&app, id, &reason).await?;
    let account = store::find_account(&app.db, user_id, None).await.map_err(Problem::of_database)?;
    let store::Account { balance, held } = account.ok_or_else(|| no_such_person(user_id.0))?;
    Ok(Json(responses::Account { user_id, balance, held }))
}
