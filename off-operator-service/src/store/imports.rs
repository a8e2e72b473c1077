//! The queries for imports of the catalog.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, types::Json};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// An import.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) id: i64,
    /// The name of what was read.
    pub(crate) name: String,
    pub(crate) started_at: DateTime<Utc>,
    /// When its last batch was stored.
    pub(crate) changed_at: DateTime<Utc>,
    /// `None` if it was interrupted, or still runs.
    pub(crate) finished_at: Option<DateTime<Utc>>,
    pub(crate) report: Json<ImportReport>,
}

/// The counts of an import, as the importer stores them.
#[derive(Debug, Deserialize)]
pub(crate) struct ImportReport {
    pub(crate) read: u64,
    pub(crate) passed_over: u64,
    pub(crate) loaded: u64,
    pub(crate) updated: u64,
    pub(crate) unchanged: u64,
    /// By reason.
    pub(crate) rejected: BTreeMap<String, Tally>,
}

/// How many records, and the line of the first one.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) first: u64,
}

/// The `limit` newest imports that started before the import `before`, newest first.
pub(crate) async fn list_imports(db: &PgPool, before: Option<i64>, limit: i64) -> sqlx::Result<Vec<Import>> {
    sqlx::query_as!(
        Import,
        r#"SELECT id, name, started_at, changed_at, finished_at, report AS "report: Json<ImportReport>"
           FROM catalog.imports WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2"#,
        before,
        limit,
    )
    .fetch_all(db)
    .await
}

/// A record that an import rejected.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reject {
    /// Its line in what was read.
    pub(crate) line: i64,
    #[schema(example = "no name")]
    reason: String,
    /// Its barcode, if it has one.
    barcode: Option<String>,
}

/// The next `limit` rejected records of an import after line `after`, if the importer kept them. `None` if there is no such
/// import.
pub(crate) async fn list_rejects(
    db: &PgPool,
    import: i64,
    after: i64,
    limit: i64,
) -> sqlx::Result<Option<Vec<Reject>>> {
    let rows = sqlx::query!(
        r#"SELECT reject.line AS "line?", reason AS "reason?", code
           FROM catalog.imports AS import LEFT JOIN catalog.rejects AS reject ON import_id = id AND reject.line > $2
           WHERE id = $1 ORDER BY reject.line LIMIT $3"#,
        import,
        after,
        limit,
    )
    .fetch_all(db)
    .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let rejects =
        rows.into_iter().filter_map(|row| Some(Reject { line: row.line?, reason: row.reason?, barcode: row.code }));
    Ok(Some(rejects.collect()))
}
