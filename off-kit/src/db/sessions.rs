//! Whether each connection has a session of its own. Behind a connection pooler in transaction mode it has none, and the
//! prepared statements of one client meet the parameters of another.

use crate::backoff::Backoff;
use anyhow::{Context, bail, ensure};
use sqlx::{Connection, PgConnection, PgPool};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How often two connections are compared: a pooler with many sessions may once give two of them.
const ROUNDS: u32 = 8;

/// A setting that nothing else uses.
const MARK: &str = "off.session";

/// What to do about it.
const ADVICE: &str = "DATABASE_URL leads to a connection pooler that gives each transaction another session, like PgBouncer \
                      with pool_mode = transaction. Prepared statements do not work there: use pool_mode = session, or \
                      connect to Postgres itself";

/// How long it may take to connect twice and compare.
const COMPARED_WITHIN: Duration = Duration::from_secs(30);

/// Waits until Postgres answers, at most `patience`; an error where connections share sessions.
pub(super) async fn refuse_shared(pool: &PgPool, patience: Option<Duration>) -> anyhow::Result<()> {
    let (mut backoff, began) = (Backoff::default(), Instant::now());
    loop {
        let compared = tokio::time::timeout(COMPARED_WITHIN, are_shared(pool)).await;
        match compared.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(shared) => {
                ensure!(!shared, ADVICE);
                return Ok(());
            }
            Err(error) if is_refused_startup(&error) => bail!(
                "{error}. DATABASE_URL leads to a connection pooler, like PgBouncer, that refuses a start-up parameter: add \
                 it to ignore_startup_parameters there, or connect to Postgres itself"
            ),
            Err(error) if patience.is_some_and(|patience| began.elapsed() >= patience) => {
                return Err(error)
                    .context("cannot compare two connections to Postgres, to see whether they share a session");
            }
            Err(error) => {
                warn!("it is not known yet whether connections share sessions: {error}");
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

/// PgBouncer's words for a start-up parameter that it does not know (https://www.pgbouncer.org/config.html).
fn is_refused_startup(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.message().contains("unsupported startup parameter"))
}

/// Whether what one connection sets is seen by another.
async fn are_shared(pool: &PgPool) -> sqlx::Result<bool> {
    let mut one = pool.acquire().await?;
    let mut other = PgConnection::connect_with(&pool.connect_options()).await?;
    let mut shared = false;
    for _ in 0..ROUNDS {
        // As plain text: prepared statements are what fails behind such a pooler.
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SET {MARK} = 'one'"))).execute(&mut *one).await?;
        let seen =
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SELECT 1 WHERE current_setting('{MARK}', true) = 'one'")));
        shared = shared || seen.fetch_optional(&mut other).await?.is_some();
    }
    // Whoever gets the session next must not find the mark.
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("RESET {MARK}"))).execute(&mut *one).await?;
    other.close().await?;
    Ok(shared)
}
