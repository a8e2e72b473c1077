//! All its SQL: the one connection of the one importer, and what it knows of imports.

mod copy;
mod merge;

use crate::{pipeline::Judged, product::Withdrawal, report::Report, source::Place};
use anyhow::Context;
use chrono::{DateTime, Utc};
use metrics::histogram;
use off_kit::{backoff::Backoff, db};
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection, types::Json};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How long a database that is away is waited for.
const PATIENCE: Duration = Duration::from_mins(10);

/// How long another importer is waited for: one that was killed holds its lock until Postgres has noticed.
const LEAVE_AFTER: Duration = Duration::from_secs(10);

/// Whoever holds this lock of Postgres imports. The number is the word `off-etl` in ASCII.
const LOCK: i64 = 0x006f_6666_2d65_746c;

/// Products of some records, in the order of the records, and what the import has come to with them.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) products: Vec<Judged>,
    /// Line, reason and barcode, where they are kept.
    pub(crate) rejects: Vec<(u64, String, Option<String>)>,
    /// What rejected records say of products that may be known.
    pub(crate) withdrawals: Vec<Withdrawal>,
    /// Of the whole import so far, but for what the catalogue says of these products.
    pub(crate) report: Report,
    pub(crate) end: Place,
    /// Whether nothing comes after it.
    pub(crate) is_last: bool,
    /// Up to when the changes of Open Food Facts are in the catalogue after the last one; `None` where that is not known.
    pub(crate) fresh_until: Option<DateTime<Utc>>,
}

/// An import as the catalogue knows it.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    id: i64,
    pub(crate) place: Place,
    pub(crate) report: Report,
}

/// Why nothing could be written.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("another importer is at work in this database: this one leaves. Only one at a time makes sense")]
    AnotherImports,
    #[error(
        "the database has lost what it had said was stored: start the import again, it goes on where the catalogue is"
    )]
    Lost,
}

/// The catalogue, with the one connection of the one importer.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pool: PgPool,
    conn: Option<PoolConnection<Postgres>>,
}

impl Catalogue {
    /// Nobody else imports while this one is there.
    pub(crate) async fn open(pool: &PgPool) -> anyhow::Result<Self> {
        let mut catalogue = Self { pool: pool.clone(), conn: None };
        catalogue.retry(async |_| Ok(())).await?;
        Ok(catalogue)
    }

    /// The import of this source by these rules that is under way, or a new one; `source` is `None` for what cannot be read
    /// again, and so never goes on.
    pub(crate) async fn begin(&mut self, source: Option<&str>, rules: &str, name: &str) -> anyhow::Result<Import> {
        self.retry(async |conn| Ok(begin(conn, source, rules, name).await?)).await
    }

    /// Up to when the changes of Open Food Facts are in the catalogue, by the exports and deltas that were read to their end by
    /// these rules; `None` where there was none.
    pub(crate) async fn fresh_until(&mut self, rules: &str) -> anyhow::Result<Option<DateTime<Utc>>> {
        self.retry(async |conn| Ok(fresh_until(conn, rules).await?)).await
    }

    /// Merges a batch, where a product replaces an older one only, and notes how far `import` has come; all of it or
    /// nothing, and once, however often the connection breaks.
    pub(crate) async fn merge(&mut self, import: &mut Import, batch: &Batch) -> anyhow::Result<()> {
        let started = Instant::now();
        let known = import.clone();
        *import = self
            .retry(async |conn| {
                // The connection may have broken after the commit and before its answer.
                let (stored, is_finished) = find(conn, known.id).await?;
                let is_merged = stored.place == batch.end && stored.report.read == batch.report.read;
                if is_merged && is_finished == batch.is_last {
                    return Ok(stored);
                }
                if stored.place != known.place {
                    return Err(Refusal::Lost);
                }
                Ok(merge::merge(conn, &known, batch).await?)
            })
            .await?;
        histogram!("off_etl_batch_seconds").record(started.elapsed());
        Ok(())
    }

    /// Does it on a connection that holds the lock; again on another one while the database is away.
    async fn retry<T>(&mut self, work: impl AsyncFn(&mut PgConnection) -> Result<T, Refusal>) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut backoff = Backoff::default();
        loop {
            let outcome = match self.connect().await {
                Ok(conn) => work(conn).await,
                Err(refusal) => Err(refusal),
            };
            match outcome {
                Ok(done) => return Ok(done),
                Err(Refusal::Database(error)) if db::is_passing(&error) && Instant::now() < deadline => {
                    warn!("the import waits: {}", db::describe(&error));
                    // Never back into the pool: whatever it holds goes with it.
                    if let Some(conn) = self.conn.take() {
                        let _ = tokio::time::timeout(Duration::from_secs(1), conn.close()).await;
                    }
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(refusal) => return Err(refusal).context("the catalogue"),
            }
        }
    }

    async fn connect(&mut self) -> Result<&mut PgConnection, Refusal> {
        if self.conn.is_none() {
            let mut conn = self.pool.acquire().await?;
            lock(&mut conn).await?;
            prepare(&mut conn).await?;
            self.conn = Some(conn);
        }
        match &mut self.conn {
            Some(conn) => Ok(conn),
            None => Err(sqlx::Error::PoolClosed.into()),
        }
    }

    /// Lets the next importer in.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        // With the connection goes its lock.
        if let Some(conn) = self.conn.take() {
            conn.close().await.context("the connection does not end")?;
        }
        Ok(())
    }
}

async fn lock(conn: &mut PgConnection) -> Result<(), Refusal> {
    let deadline = Instant::now() + LEAVE_AFTER;
    let mut backoff = Backoff::default();
    loop {
        let is_free = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "is_free!""#, LOCK);
        if is_free.fetch_one(&mut *conn).await? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Refusal::AnotherImports);
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

impl Drop for Catalogue {
    /// An import that failed leaves no connection to others that still holds its lock.
    fn drop(&mut self) {
        drop(self.conn.take().map(PoolConnection::detach));
    }
}

/// Makes the table that batches are copied into. Every join with it goes by an index of the other table: nothing is known of its
/// size, and the planner would read the whole catalogue for each batch.
async fn prepare(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("CREATE TEMPORARY TABLE etl_incoming (LIKE public.etl_incoming) ON COMMIT DELETE ROWS")
        .execute(&mut *conn)
        .await?;
    // What is noted as stored is on disk: an import goes on after it.
    sqlx::query!("SET synchronous_commit = on").execute(&mut *conn).await?;
    sqlx::query!("SET enable_hashjoin = off").execute(&mut *conn).await?;
    sqlx::query!("SET enable_mergejoin = off").execute(conn).await?;
    Ok(())
}

async fn begin(conn: &mut PgConnection, source: Option<&str>, rules: &str, name: &str) -> sqlx::Result<Import> {
    let known = sqlx::query!(
        r#"SELECT id, place, line, report AS "report: Json<Report>" FROM catalog.imports
           WHERE source = $1 AND rules = $2 AND finished_at IS NULL"#,
        source,
        rules,
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(row) = known {
        return Ok(Import { id: row.id, place: place(row.place, row.line), report: row.report.0 });
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
    Ok(Import { id, place: Place::default(), report: Report::default() })
}

/// An import as it is stored, and whether it is finished.
async fn find(conn: &mut PgConnection, id: i64) -> sqlx::Result<(Import, bool)> {
    let row = sqlx::query!(
        r#"SELECT place, line, report AS "report: Json<Report>", finished_at IS NOT NULL AS "is_finished!"
           FROM catalog.imports WHERE id = $1"#,
        id,
    )
    .fetch_one(conn)
    .await?;
    Ok((Import { id, place: place(row.place, row.line), report: row.report.0 }, row.is_finished))
}

async fn fresh_until(conn: &mut PgConnection, rules: &str) -> sqlx::Result<Option<DateTime<Utc>>> {
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
