//! Deposits, withdrawals and their reversals.

use crate::{
    App,
    domain::{Payment, PaymentKind, TransferKind},
    store,
};
use metrics::counter;
use off_events::{Money, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

/// Why a payment was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PaymentError {
    #[error("this Idempotency-Key was used for another amount; a new payment takes a new key")]
    KeyReused,
    #[error("the account has only {0}")]
    InsufficientFunds(Money),
    #[error("the balance would exceed the highest amount")]
    BalanceTooHigh,
    #[error("there is no deposit or withdrawal {0}")]
    Unknown(Uuid),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Makes a deposit or withdrawal, once for its id. Returns the balance after it, or the current one if it was made before.
pub(crate) async fn pay(app: &App, payment: Payment) -> Result<Money, PaymentError> {
    let mut tx = app.db.begin().await?;
    let balance = lock(&mut tx, payment.user).await?;
    if let Some(earlier) = store::find_payment(&mut tx, payment.id).await? {
        return if earlier.amount == payment.amount { Ok(balance) } else { Err(PaymentError::KeyReused) };
    }
    let new = match payment.kind {
        PaymentKind::Deposit => balance.checked_add(payment.amount).ok_or(PaymentError::BalanceTooHigh)?,
        PaymentKind::Withdrawal => {
            balance.checked_sub(payment.amount).ok_or(PaymentError::InsufficientFunds(balance))?
        }
    };
    store::insert_payment(&mut tx, &payment, app.clock.now()).await?;
    store::update_balance(&mut tx, payment.user, new).await?;
    tx.commit().await?;
    count(payment.kind.transfer_kind());
    Ok(new)
}

/// Reverses a deposit or withdrawal, once. Returns whose it was.
pub(crate) async fn reverse(app: &App, id: Uuid, reason: &str) -> Result<UserId, PaymentError> {
    let mut tx = app.db.begin().await?;
    let payment = store::find_payment(&mut tx, id).await?.ok_or(PaymentError::Unknown(id))?;
    let balance = lock(&mut tx, payment.user).await?;
    if store::find_reversal(&mut tx, id).await? {
        return Ok(payment.user);
    }
    let new = if payment.kind == TransferKind::Deposit {
        balance.checked_sub(payment.amount).ok_or(PaymentError::InsufficientFunds(balance))?
    } else {
        balance.checked_add(payment.amount).ok_or(PaymentError::BalanceTooHigh)?
    };
    store::insert_reversal(&mut tx, id, reason, app.clock.now()).await?;
    store::update_balance(&mut tx, payment.user, new).await?;
    tx.commit().await?;
    count(TransferKind::Reversal);
    Ok(payment.user)
}

/// Locks the account of a person, and returns its balance.
async fn lock(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Money> {
    let balances = store::lock_accounts(conn, &[user.0]).await?;
    Ok(balances.get(&user).copied().unwrap_or_default())
}

fn count(kind: TransferKind) {
    counter!("off_billing_payments_total", "kind" => kind.as_str()).increment(1);
}
