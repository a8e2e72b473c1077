//! Checks that each connection has its own session. Behind a connection pooler in transaction mode, connections share
//! sessions, and a client may execute the prepared statements of another.

use crate::backoff::Backoff;
use anyhow::{Context, bail, ensure};
use sqlx::{Connection, PgConnection, PgPool};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How often two connections are compared. A pooler with many sessions may use different ones by chance.
const ROUNDS: u32 = 8;

/// A setting that nothing else uses.
const MARKER: &str = "off.session";

/// The error text if sessions are shared.
const ADVICE: &str = "DATABASE_URL points to a connection pooler that may use another session for each transaction, \
                      like PgBouncer with pool_mode = transaction. Prepared statements do not work there: use \
                      pool_mode = session, or connect to Postgres directly";

/// Timeout for connecting twice and comparing.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until Postgres answers, up to `max_wait` if given. Fails if connections share sessions.
pub(super) async fn refuse_shared(pool: &PgPool, max_wait: Option<Duration>) -> anyhow::Result<()> {
    let (mut backoff, started) = (Backoff::default(), Instant::now());
    loop {
        let compared = tokio::time::timeout(COMPARE_TIMEOUT, are_shared(pool)).await;
        match compared.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(shared) => {
                ensure!(!shared, ADVICE);
                return Ok(());
            }
            Err(error) if is_rejected_startup(&error) => bail!(
                "{error}. DATABASE_URL points to a connection pooler like PgBouncer that rejects a startup parameter. \
                 Add it to ignore_startup_parameters there, or connect to Postgres directly"
            ),
            Err(error) if max_wait.is_some_and(|max_wait| started.elapsed() >= max_wait) => {
                return Err(error).context("cannot check whether connections to Postgres share a session");
            }
            Err(error) => {
                warn!("cannot check whether connections share sessions, retrying: {error}");
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

/// Whether this is the error of PgBouncer for an unknown startup parameter (<https://www.pgbouncer.org/config.html>).
fn is_rejected_startup(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.message().contains("unsupported startup parameter"))
}

/// Whether one connection sees a setting of another.
async fn are_shared(pool: &PgPool) -> sqlx::Result<bool> {
    let mut one = pool.acquire().await?;
    let mut other = PgConnection::connect_with(&pool.connect_options()).await?;
    let mut shared = false;
    for _ in 0..ROUNDS {
        // Simple queries, because prepared statements fail behind such a pooler.
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SET {MARKER} = 'one'"))).execute(&mut *one).await?;
        let seen =
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SELECT 1 WHERE current_setting('{MARKER}', true) = 'one'")));
        shared = shared || seen.fetch_optional(&mut other).await?.is_some();
    }
    // The next client of this session must not see the marker.
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("RESET {MARKER}"))).execute(&mut *one).await?;
    other.close().await?;
    Ok(shared)
}
