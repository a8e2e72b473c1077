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

/// Makes a person an operator or an ordinary person; their next access token says so. The security log records it.
pub(super) async fn set_operator(db: &PgPool, id: i64, is_operator: bool, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "WITH changed AS (UPDATE auth.accounts SET is_operator = $2 WHERE user_id = $1)
         INSERT INTO auth.security_events (at, kind, subject, address, detail) VALUES ($3, $4, 'user:' || $1, '', 'off user')",
        id,
        is_operator,
        now,
        if is_operator { "operator_added" } else { "operator_removed" },
    )
    .execute(db)
    .await?;
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
    sqlx::query!(
        "INSERT INTO auth.security_events (at, kind, subject, address, detail)
         VALUES ($1, $2, 'user:' || $3::bigint, '', 'off user')",
        now,
        if person.is_operator { "operator_added" } else { "person_added" },
        id,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(id)
}
