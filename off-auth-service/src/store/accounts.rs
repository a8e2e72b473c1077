//! Accounts.

use chrono::{DateTime, Utc};
use off_events::UserId;
use sqlx::{PgConnection, PgPool};
use std::fmt;

/// An account whose password may be verified now.
pub(crate) struct Account {
    pub(crate) user_id: UserId,
    pub(crate) password_hash: String,
    /// When the password was set.
    pub(crate) changed_at: DateTime<Utc>,
}

/// Without the hash.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user_id", &self.user_id).finish_non_exhaustive()
    }
}

/// The e-mail address by which a person signs in.
pub(crate) async fn find_email(db: &PgPool, user_id: UserId) -> sqlx::Result<Option<String>> {
    let email = sqlx::query_scalar!("SELECT email FROM auth.accounts WHERE user_id = $1", user_id.0);
    email.fetch_optional(db).await
}

/// Locks an account whose password was right, and stores a hash with today's parameters if there is one. Returns whether
/// the person is an operator, which may have changed since the attempt; `None` if the password was changed since.
pub(crate) async fn confirm_account(
    conn: &mut PgConnection,
    account: &Account,
    new_hash: Option<&str>,
) -> sqlx::Result<Option<bool>> {
    let confirmed = sqlx::query_scalar!(
        "UPDATE auth.accounts SET password_hash = coalesce($3, password_hash)
         WHERE user_id = $1 AND changed_at = $2
         RETURNING is_operator",
        account.user_id.0,
        account.changed_at,
        new_hash,
    );
    confirmed.fetch_optional(conn).await
}

/// Stores another password. Returns false if the password was changed after the old one was verified.
pub(crate) async fn update_password(
    conn: &mut PgConnection,
    account: &Account,
    password_hash: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let updated = sqlx::query!(
        "UPDATE auth.accounts SET password_hash = $3, changed_at = $4 WHERE user_id = $1 AND changed_at = $2",
        account.user_id.0,
        account.changed_at,
        password_hash,
        now,
    );
    Ok(updated.execute(conn).await?.rows_affected() == 1)
}
