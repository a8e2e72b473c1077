//! The transaction of a snapshot.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

/// Begins a transaction in which every query sees the rows of the same moment, and none can write.
pub(crate) async fn begin_snapshot(db: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    // Whole tables are compared: without hash joins, or with the little memory of a small query, that takes minutes. The
    // sessions of a service also have timeouts that are made for queries of a few rows.
    sqlx::raw_sql(
        "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on; SET LOCAL jit = off;
         SET LOCAL work_mem = '64MB'; SET LOCAL statement_timeout = '10min';
         SET LOCAL idle_in_transaction_session_timeout = '2min'",
    )
    .execute(&mut *tx)
    .await?;
    Ok(tx)
}

/// Reads when the transaction began, by the clock of the database.
pub(crate) async fn read_time(conn: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(conn).await
}
