//! The security log.

use crate::domain::SecurityEvent;
use chrono::{DateTime, Utc};
use off_kit::http::RequestSource;
use sqlx::PgConnection;

/// Inserts events in the transaction of their facts. The role of this service may not read, change or delete them.
pub(crate) async fn insert_security_events(
    conn: &mut PgConnection,
    events: &[SecurityEvent],
    source: &RequestSource,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let (mut kinds, mut subjects, mut details) = (vec![], vec![], vec![]);
    for event in events {
        kinds.push(event.kind.as_str().to_owned());
        subjects.push(event.subject.to_string());
        details.push(event.detail.clone());
    }
    sqlx::query!(
        "INSERT INTO auth.security_events (at, kind, subject, address, detail)
         SELECT $1, kind, subject, $2, detail
         FROM unnest($3::text[], $4::text[], $5::text[]) AS event (kind, subject, detail)",
        now,
        source.address,
        &kinds,
        &subjects,
        &details,
    )
    .execute(conn)
    .await?;
    Ok(())
}
