//! The statements of `off user`.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// A person to insert.
pub(super) struct NewPerson<'a> {
    pub(super) first_name: &'a str,
    pub(super) last_name: &'a str,
    pub(super) email: &'a str,
    pub(super) password_hash: &'a str,
    pub(super) is_operator: bool,
}

/// The person who signs in with this e-mail address.
pub(super) async fn find_account(db: &PgPool, email: &str) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!("SELECT user_id FROM auth.accounts WHERE email = $1", email).fetch_optional(db).await
}

/// Makes a person an operator; their next access token says so.
pub(super) async fn set_operator(db: &PgPool, id: i64) -> sqlx::Result<()> {
    sqlx::query!("UPDATE auth.accounts SET is_operator = true WHERE user_id = $1", id).execute(db).await?;
    Ok(())
}

/// Inserts a person without devices, with their account; returns the id.
pub(super) async fn insert_person(db: &PgPool, person: &NewPerson<'_>, now: DateTime<Utc>) -> sqlx::Result<i64> {
    let mut tx = db.begin().await?;
    let id = sqlx::query_scalar!(
        "INSERT INTO users.users (first_name, last_name, email, registered_at) VALUES ($1, $2, $3, $4) RETURNING id",
        person.first_name,
        person.last_name,
        person.email,
        now,
    )
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO auth.accounts (user_id, email, password_hash, is_operator, changed_at)
         VALUES ($1, $2, $3, $4, $5)",
        id,
        person.email,
        person.password_hash,
        person.is_operator,
        now,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(id)
}
