//! The table `catalog.imports`: how far each import is.

use super::{
    batch::{Batch, Import},
    report::Report,
};
use crate::{report, source::Place};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, types::Json};

/// Finds the unfinished import of this source with these rules, or creates a new one.
pub(super) async fn begin(
    conn: &mut PgConnection,
    source: Option<&str>,
    rules: &str,
    name: &str,
) -> sqlx::Result<Import> {
    let known = sqlx::query!(
        r#"SELECT id, place, line, report AS "report: Json<Report>" FROM catalog.imports
           WHERE source = $1 AND rules = $2 AND finished_at IS NULL"#,
        source,
        rules,
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(row) = known {
        return Ok(Import { id: row.id, place: place(row.place, row.line), report: row.report.0.into() });
    }
    let id = sqlx::query_scalar!(
        "INSERT INTO catalog.imports (source, rules, name, place, line, report)
         VALUES (coalesce($1, 'once ' || gen_random_uuid()), $2, $3, 0, 0, $4)
         RETURNING id",
        source,
        rules,
        name,
        Json(Report::default()) as _,
    )
    .fetch_one(conn)
    .await?;
    Ok(Import { id, place: Place::default(), report: report::Report::default() })
}

/// The stored state of an import, and whether it is finished.
pub(super) async fn find(conn: &mut PgConnection, id: i64) -> sqlx::Result<(Import, bool)> {
    let row = sqlx::query!(
        r#"SELECT place, line, report AS "report: Json<Report>", finished_at IS NOT NULL AS "is_finished!"
           FROM catalog.imports WHERE id = $1"#,
        id,
    )
    .fetch_one(conn)
    .await?;
    Ok((Import { id, place: place(row.place, row.line), report: row.report.0.into() }, row.is_finished))
}

/// Stores the place and the report of an import after `batch`.
pub(super) async fn advance(
    conn: &mut PgConnection,
    id: i64,
    batch: &Batch,
    report: report::Report,
) -> sqlx::Result<Import> {
    sqlx::query!(
        "UPDATE catalog.imports
         SET place = $2, line = $3, report = $4, changed_at = now(), finished_at = CASE WHEN $5 THEN now() END,
             fresh_until = $6
         WHERE id = $1",
        id,
        batch.end.offset.cast_signed(),
        batch.end.line.cast_signed(),
        Json(Report::from(&report)) as _,
        batch.is_last,
        batch.fresh_until,
    )
    .execute(conn)
    .await?;
    Ok(Import { id, place: batch.end, report })
}

/// Up to when the catalog has the changes of Open Food Facts, from the finished imports with these rules.
pub(super) async fn fresh_until(conn: &mut PgConnection, rules: &str) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        "SELECT max(fresh_until) FROM catalog.imports WHERE rules = $1 AND finished_at IS NOT NULL",
        rules,
    )
    .fetch_one(conn)
    .await
}

fn place(offset: i64, line: i64) -> Place {
    Place { offset: offset.cast_unsigned(), line: line.cast_unsigned() }
}
