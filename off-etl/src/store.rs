//! All its SQL: a batch of products, and how far the import has come with it, in one transaction.

mod copy;

use crate::{pipeline::Judged, report::Report, source::Place};
use anyhow::Context;
use chrono::{DateTime, Utc};
use copy::Rows;
use metrics::histogram;
use off_kit::{backoff::Backoff, db};
use sqlx::{Acquire, PgConnection, PgPool, Postgres, pool::PoolConnection, types::Json};
use std::{collections::HashMap, time::Duration};
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

    /// Up to when the changes of Open Food Facts are in the catalogue, by the exports and deltas that were read to their end;
    /// `None` where there was none.
    pub(crate) async fn fresh_until(&mut self) -> anyhow::Result<Option<DateTime<Utc>>> {
        self.retry(async |conn| Ok(fresh_until(conn).await?)).await
    }

    /// Merges a batch, where a product replaces an older one only, and notes how far `import` has come; all of it or
    /// nothing, and once, however often the connection breaks.
    pub(crate) async fn merge(&mut self, import: &mut Import, batch: &Batch) -> anyhow::Result<()> {
        let started = Instant::now();
        let (before, known) = (import.report.clone(), import.clone());
        let merged = self
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
                Ok(merge(conn, &known, batch).await?)
            })
            .await?;
        merged.report.count_since(&before);
        *import = merged;
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
                    warn!("Postgres is away, the import waits: {error}");
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

async fn fresh_until(conn: &mut PgConnection) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!("SELECT max(fresh_until) FROM catalog.imports WHERE finished_at IS NOT NULL")
        .fetch_one(conn)
        .await
}

fn place(offset: i64, line: i64) -> Place {
    Place { offset: offset.cast_unsigned(), line: line.cast_unsigned() }
}

async fn merge(conn: &mut PgConnection, import: &Import, batch: &Batch) -> sqlx::Result<Import> {
    let mut tx = conn.begin().await?;
    let known = find_known(&mut tx, &batch.products).await?;
    let Decision { winners, loaded, updated, unchanged } = decide(&known, &batch.products);
    let mut report = batch.report.clone();
    report.loaded = import.report.loaded + loaded;
    report.updated = import.report.updated + updated;
    report.unchanged = import.report.unchanged + unchanged;
    if !winners.is_empty() {
        copy(&mut tx, &winners).await?;
        write_products(&mut tx).await?;
        write_brands(&mut tx).await?;
    }
    keep_rejects(&mut tx, import.id, batch).await?;
    sqlx::query!(
        "UPDATE catalog.imports
         SET place = $2, line = $3, report = $4, changed_at = now(), finished_at = CASE WHEN $5 THEN now() END,
             fresh_until = $6
         WHERE id = $1",
        import.id,
        batch.end.offset.cast_signed(),
        batch.end.line.cast_signed(),
        Json(&report) as _,
        batch.is_last,
        batch.fresh_until,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Import { id: import.id, place: batch.end, report })
}

/// How new a product is: when it changed, and of two that changed in the same second, the fingerprint.
type Age = (DateTime<Utc>, i64);

/// How new those products are that the catalogue has already.
async fn find_known(conn: &mut PgConnection, products: &[Judged]) -> sqlx::Result<HashMap<String, Age>> {
    let barcodes: Vec<&str> = products.iter().map(|judged| judged.product.barcode.as_str()).collect();
    let rows = sqlx::query!(
        "SELECT barcode, last_modified, fingerprint FROM catalog.products WHERE barcode = ANY($1)",
        &barcodes as _,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.barcode, (row.last_modified, row.fingerprint))).collect())
}

/// What becomes of the products of a batch.
#[derive(Debug, Default)]
struct Decision<'a> {
    /// The newest of each barcode, where it is newer than what there is; and whether there is none.
    winners: Vec<(&'a Judged, bool)>,
    loaded: u64,
    updated: u64,
    unchanged: u64,
}

/// As if the products came one by one, so that it makes no difference where one batch ends and the next begins.
fn decide<'a>(known: &HashMap<String, Age>, products: &'a [Judged]) -> Decision<'a> {
    let mut decision = Decision::default();
    let mut newest: HashMap<&str, (Age, &Judged)> = HashMap::with_capacity(products.len());
    for judged in products {
        let (barcode, age) = (judged.product.barcode.as_str(), (judged.product.last_modified, judged.fingerprint));
        let standing = newest.get(barcode).map(|(age, _)| age).or_else(|| known.get(barcode));
        match standing {
            Some(standing) if *standing >= age => decision.unchanged += 1,
            standing => {
                match standing {
                    Some(_) => decision.updated += 1,
                    None => decision.loaded += 1,
                }
                newest.insert(barcode, (age, judged));
            }
        }
    }
    decision.winners =
        newest.into_iter().map(|(barcode, (_, judged))| (judged, !known.contains_key(barcode))).collect();
    // Neighbours in the index are written one after the other.
    decision.winners.sort_unstable_by(|(one, _), (other, _)| one.product.barcode.cmp(&other.product.barcode));
    decision
}

async fn copy(conn: &mut PgConnection, winners: &[(&Judged, bool)]) -> sqlx::Result<()> {
    let mut rows = Rows::new();
    for (judged, is_new) in winners {
        let product = &judged.product;
        rows.row(21)
            .text(product.barcode.as_str())
            .text(&product.name)
            .text(&product.quantity)
            .maybe(product.product_quantity, Rows::double)
            .maybe(product.product_quantity_unit.as_deref(), Rows::text)
            .maybe(product.image_url.as_deref(), Rows::text)
            .maybe(product.kcal_100g, Rows::double)
            .maybe(product.kcal_serving, Rows::double)
            .short(product.nova_group)
            .maybe(product.nutriscore_score, Rows::short)
            .text(&product.nutriscore_grade)
            .maybe(product.fat.as_deref(), Rows::text)
            .maybe(product.saturated_fat.as_deref(), Rows::text)
            .maybe(product.sugars.as_deref(), Rows::text)
            .maybe(product.salt.as_deref(), Rows::text)
            .texts(&product.brands)
            .texts(&product.categories)
            .boolean(product.obsolete)
            .time(product.last_modified)
            .long(judged.fingerprint)
            .boolean(*is_new);
    }
    let mut copy = conn.copy_in_raw("COPY etl_incoming FROM STDIN (FORMAT binary)").await?;
    copy.send(rows.finish()).await?;
    copy.finish().await?;
    Ok(())
}

/// Updates what is older and inserts what is new. Not by ON CONFLICT DO UPDATE, which would draw a number for each product it
/// updates, and the numbers are drawn from at random elsewhere.
async fn write_products(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE catalog.products AS product
         SET name = incoming.name, quantity = incoming.quantity, product_quantity = incoming.product_quantity,
             product_quantity_unit = incoming.product_quantity_unit, image_url = incoming.image_url,
             kcal_100g = incoming.kcal_100g, kcal_serving = incoming.kcal_serving, nova_group = incoming.nova_group,
             nutriscore_score = incoming.nutriscore_score, nutriscore_grade = incoming.nutriscore_grade,
             categories = incoming.categories, obsolete = incoming.obsolete,
             last_modified = incoming.last_modified, fingerprint = incoming.fingerprint
         FROM etl_incoming AS incoming
         WHERE NOT incoming.is_new AND product.barcode = incoming.barcode",
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO catalog.products (barcode, name, quantity, product_quantity, product_quantity_unit, image_url,
             kcal_100g, kcal_serving, nova_group, nutriscore_score, nutriscore_grade, categories, obsolete,
             last_modified, fingerprint)
         SELECT barcode, name, quantity, product_quantity, product_quantity_unit, image_url,
             kcal_100g, kcal_serving, nova_group, nutriscore_score, nutriscore_grade, categories, obsolete,
             last_modified, fingerprint
         FROM etl_incoming WHERE is_new",
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO catalog.nutrient_levels (barcode, fat, saturated_fat, sugars, salt)
         SELECT barcode, fat, saturated_fat, sugars, salt FROM etl_incoming
         ON CONFLICT (barcode) DO UPDATE
         SET fat = excluded.fat, saturated_fat = excluded.saturated_fat, sugars = excluded.sugars, salt = excluded.salt",
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn write_brands(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO catalog.brands (name)
         SELECT DISTINCT brand.name FROM etl_incoming, unnest(etl_incoming.brands) AS brand (name)
         WHERE NOT EXISTS (SELECT FROM catalog.brands AS known WHERE known.name = brand.name)",
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "DELETE FROM catalog.product_brands AS old USING etl_incoming
         WHERE NOT etl_incoming.is_new AND old.barcode = etl_incoming.barcode",
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO catalog.product_brands (barcode, brand_id)
         SELECT etl_incoming.barcode, brands.id
         FROM etl_incoming, unnest(etl_incoming.brands) AS brand (name) JOIN catalog.brands ON brands.name = brand.name",
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn keep_rejects(conn: &mut PgConnection, import_id: i64, batch: &Batch) -> sqlx::Result<()> {
    if batch.rejects.is_empty() {
        return Ok(());
    }
    let lines: Vec<i64> = batch.rejects.iter().map(|(line, ..)| line.cast_signed()).collect();
    let reasons: Vec<&str> = batch.rejects.iter().map(|(_, reason, _)| reason.as_str()).collect();
    let codes: Vec<Option<&str>> = batch.rejects.iter().map(|(.., code)| code.as_deref()).collect();
    sqlx::query!(
        "INSERT INTO catalog.rejects (import_id, line, reason, code)
         SELECT $1, line, reason, code FROM unnest($2::bigint[], $3::text[], $4::text[]) AS reject (line, reason, code)",
        import_id,
        &lines,
        &reasons as _,
        &codes as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}
