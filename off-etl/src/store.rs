//! All SQL of the importer. One importer runs per database, on one connection.

mod batch;
mod copy;
mod imports;
mod merge;
mod prices;
mod report;
mod search;

pub(crate) use batch::{Batch, Import};
pub(crate) use prices::PriceImport;

use anyhow::Context;
use chrono::{DateTime, Utc};
use metrics::histogram;
use off_kit::{backoff::Backoff, db};
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// How long an unavailable database is retried.
const RETRY_TIMEOUT: Duration = Duration::from_mins(10);

/// How long to wait for the lock: a killed importer holds it until Postgres notices that its connection is gone.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Advisory lock of the running importer. The number is the word `off-etl` in ASCII.
const LOCK: i64 = 0x006f_6666_2d65_746c;

/// Why a database operation failed.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("another importer is running on this database, and only one may run at a time")]
    Locked,
    #[error("the database has lost a committed batch: start the import again, it resumes from the stored state")]
    LostBatch,
}

/// The catalog, with the connection that holds the importer's lock.
#[derive(Debug)]
pub(crate) struct Catalog {
    pool: PgPool,
    conn: Option<PoolConnection<Postgres>>,
}

impl Catalog {
    /// Connects and takes the lock, so that no other importer runs at the same time.
    pub(crate) async fn open(pool: &PgPool) -> anyhow::Result<Self> {
        let mut catalog = Self { pool: pool.clone(), conn: None };
        catalog.retry(async |_| Ok(())).await?;
        Ok(catalog)
    }

    /// Finds the unfinished import of this source with these rules, or creates a new one. `source` is `None` for a
    /// source that cannot be read again and so is never resumed.
    pub(crate) async fn begin(&mut self, source: Option<&str>, rules: &str, name: &str) -> anyhow::Result<Import> {
        self.retry(async |conn| Ok(imports::begin(conn, source, rules, name).await?)).await
    }

    /// Up to when the catalog has the changes of Open Food Facts, from the exports and deltas that were imported
    /// completely with these rules; `None` if there are none.
    pub(crate) async fn fresh_until(&mut self, rules: &str) -> anyhow::Result<Option<DateTime<Utc>>> {
        self.retry(async |conn| Ok(imports::fresh_until(conn, rules).await?)).await
    }

    /// Merges a batch and stores the progress of `import` in one transaction. A product replaces only an older one. The
    /// batch is merged exactly once, however often the connection breaks.
    pub(crate) async fn merge(&mut self, import: &mut Import, batch: &Batch) -> anyhow::Result<()> {
        let started = Instant::now();
        let known = import.clone();
        *import = self
            .retry(async |conn| {
                // After a retry: the connection may have broken after the commit, before its confirmation arrived.
                let (stored, is_finished) = imports::find(conn, known.id).await?;
                let is_merged = stored.place == batch.end && stored.report.read == batch.report.read;
                if is_merged && is_finished == batch.is_last {
                    return Ok(stored);
                }
                if stored.place != known.place {
                    return Err(StoreError::LostBatch);
                }
                Ok(merge::merge(conn, &known, batch).await?)
            })
            .await?;
        histogram!("off_etl_batch_seconds").record(started.elapsed());
        Ok(())
    }

    /// Makes all products searchable as they are now. Products that did not change cost one look-up each.
    pub(crate) async fn update_search(&mut self) -> anyhow::Result<()> {
        let (started, mut changed) = (Instant::now(), 0);
        let last = self.retry(async |conn| Ok(search::find_last_number(conn).await?)).await?;
        for after in (0..last).step_by(usize::try_from(search::STEP)?) {
            changed += self.retry(async |conn| Ok(search::update_words(conn, after).await?)).await?;
        }
        if changed > 0 {
            self.retry(async |conn| Ok(search::update_vocabulary(conn).await?)).await?;
            info!("the search has {changed} new or changed products, after {:.1} s", started.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Runs `work` on the connection that holds the lock. Retries on a new connection while the database is
    /// unavailable.
    async fn retry<T>(&mut self, work: impl AsyncFn(&mut PgConnection) -> Result<T, StoreError>) -> anyhow::Result<T> {
        let deadline = Instant::now() + RETRY_TIMEOUT;
        let mut backoff = Backoff::default();
        loop {
            let outcome = match self.connect().await {
                Ok(conn) => work(conn).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(done) => return Ok(done),
                Err(StoreError::Database(error)) if db::is_transient(&error) && Instant::now() < deadline => {
                    warn!("the database is unavailable, retrying: {}", db::describe(&error));
                    // The connection never returns to the pool, because it may still hold the lock.
                    if let Some(conn) = self.conn.take() {
                        let _ = tokio::time::timeout(Duration::from_secs(1), conn.close()).await;
                    }
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(error) => return Err(error).context("cannot update the catalog"),
            }
        }
    }

    /// The connection that holds the lock; opens one if there is none.
    async fn connect(&mut self) -> Result<&mut PgConnection, StoreError> {
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

    /// Closes the connection and so releases the lock.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        if let Some(conn) = self.conn.take() {
            conn.close().await.context("cannot close the connection")?;
        }
        Ok(())
    }
}

/// Takes the lock of the importer. Waits for another importer to release it, at most [`LOCK_TIMEOUT`].
async fn lock(conn: &mut PgConnection) -> Result<(), StoreError> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
    loop {
        let is_free = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "is_free!""#, LOCK);
        if is_free.fetch_one(&mut *conn).await? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(StoreError::Locked);
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

impl Drop for Catalog {
    /// After a failed import, the connection must not return to the pool: it still holds the lock.
    fn drop(&mut self) {
        drop(self.conn.take().map(PoolConnection::detach));
    }
}

/// Creates the temporary table that batches are copied into, and makes joins use an index of the other table. The
/// planner has no statistics of the temporary table, and would read the whole catalog for each batch.
async fn prepare(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("CREATE TEMPORARY TABLE etl_incoming (LIKE public.etl_incoming) ON COMMIT DELETE ROWS")
        .execute(&mut *conn)
        .await?;
    // Stored progress must be on disk, because a resumed import skips everything before it.
    sqlx::query!("SET synchronous_commit = on").execute(&mut *conn).await?;
    sqlx::query!("SET enable_hashjoin = off").execute(&mut *conn).await?;
    sqlx::query!("SET enable_mergejoin = off").execute(conn).await?;
    Ok(())
}
