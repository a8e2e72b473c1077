//! The security log, which is only appended to.

use crate::domain::SecurityEvent;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// Records an event, in the transaction of the fact that it is about.
pub(crate) async fn insert_security_event(
    conn: &mut PgConnection,
    event: &SecurityEvent<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO auth.security_events (at, kind, subject, address, detail) VALUES ($1, $2, $3, $4, $5)",
        now,
        event.kind.as_str(),
        event.subject,
        event.address,
        event.detail,
    )
    .execute(conn)
    .await?;
    Ok(())
}
