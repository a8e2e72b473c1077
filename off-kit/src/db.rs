//! Postgres: pools, timeouts, and which errors are transient.

mod held;
mod probe;
mod sessions;

pub use crate::secret::redact;
pub use held::HeldConnection;
pub use probe::{describe, probe};

use crate::{Clock, Kit, Tasks, WORK_TIMEOUT, backoff::Backoff, secret, telemetry::Metric};
use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use metrics::gauge;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{fmt, io, path::PathBuf, str::FromStr, time::Duration};
use tokio::{runtime::Handle, sync::watch};
use tracing::{debug, warn};

/// The metrics of this module.
pub(crate) const METRICS: [Metric; 2] = [
    Metric::gauge("off_database_connections", "Open connections to Postgres"),
    Metric::gauge("off_database_connections_in_use", "Connections to Postgres in use"),
];

/// A connection that was idle longer than this is pinged before it is used.
const PING_AFTER: Duration = Duration::from_secs(1);

/// Connect timeout where no request waits for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(12);

/// How long a connection may take to answer a ping after its work was done or canceled. If it does not answer, it is
/// closed.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the connections are counted and missing ones opened.
const COUNT_INTERVAL: Duration = Duration::from_secs(2);

/// The address of Postgres, and the size of the pool.
#[derive(Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The URL of the database, like postgres://user:password@host:5432/off.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: String,
    /// A file with the password, for a URL that contains only the user.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// Maximum number of connections for requests and messages. In addition, health checks use one; the orders service
    /// uses one each for intake, publisher and recovery, the users service one each for outbox and reminders, the auth
    /// and billing services one for the outbox.
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 8, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=500))]
    pub database_connections: u32,
}

impl Config {
    /// At most `connections` to the database at `url`, which contains the password.
    pub fn at(url: &str, connections: u32) -> Self {
        Self { database_url: url.to_owned(), database_password_file: None, database_connections: connections }
    }

    fn options(&self) -> anyhow::Result<PgConnectOptions> {
        let url =
            secret::fill_in(&self.database_url, self.database_password_file.as_deref()).context("DATABASE_URL")?;
        parse_url(&url)
    }
}

/// Shows `…` in place of the password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("database_url", &redact(&self.database_url))
            .field("database_password_file", &self.database_password_file)
            .field("database_connections", &self.database_connections)
            .finish()
    }
}

/// The error does not repeat the text: it may contain a password.
fn parse_url(text: &str) -> anyhow::Result<PgConnectOptions> {
    let usable = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let options = PgConnectOptions::from_str(text).ok().filter(|_| usable);
    options.context("DATABASE_URL: expected postgres://user:password@host:port/database")
}

/// A pool that connects on first use, so that a program starts while Postgres is unavailable.
pub fn lazy_pool(config: &Config, application: &str) -> anyhow::Result<PgPool> {
    let options = config.options()?.application_name(application);
    Ok(pool_options(config.database_connections, &options, Clock::real(1.0)).connect_lazy_with(options))
}

/// The common options of all pools. Only connections that were idle for a while are pinged before use.
fn pool_options(connections: u32, options: &PgConnectOptions, clock: Clock) -> PgPoolOptions {
    let options = options.clone();
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(3))
        .test_before_acquire(false)
        .before_acquire(|conn, used| {
            Box::pin(async move {
                if used.idle_for > PING_AFTER {
                    conn.ping().await?;
                }
                Ok(true)
            })
        })
        // Without this, sqlx waits without a timeout until a connection has finished canceled work.
        .after_release(move |conn, _| {
            let options = options.clone();
            Box::pin(async move {
                let result = tokio::time::timeout(clock.shortened(RETURN_TIMEOUT), conn.ping()).await;
                if let Ok(pong) = result {
                    return pong.map(|()| true);
                }
                // Closing could also block forever, because it first sends what is buffered. Dropping a connection does
                // not.
                *conn = reconnect(&options).await;
                Ok(false)
            })
        })
}

/// Connects, and retries until Postgres is available. Until then, the pool has one connection fewer.
async fn reconnect(options: &PgConnectOptions) -> PgConnection {
    let mut backoff = Backoff::default();
    loop {
        match tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await {
            Ok(Ok(conn)) => return conn,
            Ok(Err(error)) => debug!("cannot reconnect to the database, retrying: {error}"),
            Err(_) => debug!("cannot reconnect to the database within {} s, retrying", CONNECT_TIMEOUT.as_secs()),
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Runs `work`, and cancels it after 20 s, so that the caller can retry on another connection. Canceled work may
/// nevertheless have been committed.
pub async fn with_timeout<T, E: From<sqlx::Error>>(
    clock: Clock,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(clock.shortened(WORK_TIMEOUT), work).await.unwrap_or_else(|_| Err(timeout_error().into()))
}

/// The error of a database that did not answer in time.
fn timeout_error() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database did not answer in time"))
}

/// The settings of the sessions of a service:
/// - Each query finds a few rows by an index, in tables that grow faster than they are analyzed. The planner would take
///   the tables for small and choose a sequential scan.
/// - The statement timeout is shorter than the timeout of the service, so that no statement succeeds after the service
///   has canceled it.
/// - The session of a service that is frozen, disconnected or dead ends soon, whether it is idle or Postgres waits for
///   it to read. Recovery waits for the oldest transaction, and other sessions wait for its row locks.
fn session_settings(clock: Clock) -> AssertSqlSafe<String> {
    let milliseconds = |seconds| clock.shortened(Duration::from_secs(seconds)).as_millis();
    let (statement, idle, unread) = (milliseconds(15), milliseconds(30), milliseconds(30));
    AssertSqlSafe(format!(
        "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; \
         SET statement_timeout = {statement}; SET idle_in_transaction_session_timeout = {idle}; \
         SET tcp_user_timeout = {unread}; SET tcp_keepalives_idle = '30s'; SET tcp_keepalives_interval = '10s'; \
         SET tcp_keepalives_count = 3"
    ))
}

/// A pool of one additional connection, for idempotent work. It commits asynchronously, so a crash of Postgres may undo
/// its last commits.
pub fn background_pool(kit: &Kit, pool: &PgPool) -> PgPool {
    let (beside, clock) = (pool.clone(), kit.clock);
    let options = pool_options(1, &pool.connect_options(), clock).acquire_timeout(CONNECT_TIMEOUT).after_connect(
        move |conn, _| {
            let beside = beside.clone();
            Box::pin(async move {
                // Waits for the session check as the connections of `pool` do: it must be known that sessions are not
                // shared.
                drop(beside.acquire().await?);
                sqlx::raw_sql(session_settings(clock)).execute(&mut *conn).await?;
                sqlx::raw_sql("SET synchronous_commit = off").execute(conn).await?;
                Ok(())
            })
        },
    );
    options.connect_lazy_with(pool.connect_options().as_ref().clone())
}

/// The pool of a service. Adds the readiness check `postgres`: from now on the service is ready only while Postgres is
/// available and has the migration `newest`. The service ends with an error if its connections share sessions, as
/// behind a connection pooler.
pub fn pool_for(kit: &Kit, config: &Config, newest: i64) -> anyhow::Result<PgPool> {
    let options = config.options()?.application_name(&format!("off-{}", kit.name));
    let (passed, own_sessions) = watch::channel(false);
    let (gate, clock) = (own_sessions.clone(), kit.clock);
    let pool = pool_options(config.database_connections, &options, clock).after_connect(move |conn, _| {
        let mut gate = gate.clone();
        Box::pin(async move {
            // Settings must not reach the session of another client.
            gate.wait_for(|passed| *passed).await.map_err(|_| sqlx::Error::PoolClosed)?;
            // Not as startup options, because PgBouncer rejects or drops those.
            sqlx::raw_sql(session_settings(clock)).execute(conn).await?;
            Ok(())
        })
    });
    let pool = pool.connect_lazy_with(options.clone());
    keep_connections(kit, &pool, config.database_connections);
    // The check has its own connection, because a busy service is not unready. It connects at once and stays connected,
    // because connecting takes seconds under load: sqlx yields many times while it hashes the password.
    let checked =
        pool_options(1, &options, clock).acquire_timeout(CONNECT_TIMEOUT).idle_timeout(None).max_lifetime(None);
    let checked = checked.connect_lazy_with(options);
    let sessions = checked.clone();
    kit.readiness_checks.add("postgres", move || {
        let (pool, passed) = (checked.clone(), *own_sessions.borrow());
        async move {
            check(&pool, newest).await?;
            if passed { Ok(()) } else { Err("the check for shared sessions has not finished yet".to_owned()) }
        }
    });
    let tasks = kit.tasks.clone();
    kit.tasks.spawn("session check", async move {
        tokio::select! {
            checked = sessions::refuse_shared(&sessions, None) => checked?,
            () = tasks.stopping() => {}
        }
        passed.send_replace(true);
        // A task that ends stops the service.
        tasks.stopping().await;
        Ok(())
    });
    Ok(pool)
}

/// Adds the readiness check `clock`: the service is ready only while its clock and that of the database differ by less
/// than `tolerance`.
pub fn need_same_time(kit: &Kit, pool: &PgPool, tolerance: Duration) {
    let (pool, clock) = (pool.clone(), kit.clock);
    kit.readiness_checks.add("clock", move || {
        let pool = pool.clone();
        async move {
            let time = sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "time!""#).fetch_one(&pool).await;
            let time: DateTime<Utc> = time.map_err(|_| "cannot read the clock of the database".to_owned())?;
            let difference = clock.now() - time;
            if difference.abs().to_std().is_ok_and(|difference| difference < tolerance) {
                return Ok(());
            }
            let (seconds, side) =
                (difference.num_seconds().abs(), if difference > TimeDelta::zero() { "ahead of" } else { "behind" });
            Err(format!("the clock of this machine is {seconds} s {side} the database"))
        }
    });
}

/// Opens connections before they are needed, and records how many are open and in use.
fn keep_connections(kit: &Kit, pool: &PgPool, max: u32) {
    let (pool, service, tasks) = (pool.clone(), kit.name, kit.tasks.clone());
    kit.tasks.spawn("connections", async move {
        let mut counts = tasks.every(COUNT_INTERVAL);
        while counts.tick().await {
            fill(&pool, max, &tasks).await;
            let (open, idle) = (pool.size() as usize, pool.num_idle());
            gauge!("off_database_connections", "service" => service).set(open as f64);
            gauge!("off_database_connections_in_use", "service" => service).set(open.saturating_sub(idle) as f64);
        }
        Ok(())
    });
}

/// Opens missing connections up to `max`, on a separate thread. sqlx yields about 800 times while it hashes a password,
/// each time to all runnable tasks, so under load a connection would take longer than its timeout.
async fn fill(pool: &PgPool, max: u32, tasks: &Tasks) {
    if pool.size() >= max {
        return;
    }
    // The pool hands out idle connections first, so these have to be acquired, too.
    let wanted = (max - pool.size()) as usize + pool.num_idle();
    let (runtime, pool, tasks) = (Handle::current(), pool.clone(), tasks.clone());
    let filled = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                // Held until all are open: otherwise the same connections would be acquired again.
                opened = join_all((0..wanted).map(|_| pool.acquire())) => opened.into_iter().find_map(Result::err),
                () = tasks.stopping() => None,
            }
        })
    });
    if let Ok(Some(error)) = filled.await {
        debug!("cannot open all connections: {error}");
    }
}

/// Checks that the database answers and has the migration `newest`. The error is a text for people.
pub async fn check(pool: &PgPool, newest: i64) -> Result<(), String> {
    let applied: Result<Option<i64>, _> =
        sqlx::query_scalar!("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(pool).await;
    match applied {
        Ok(Some(applied)) if applied >= newest => Ok(()),
        Ok(applied) => {
            let applied = applied.unwrap_or(0);
            Err(format!("the database is at migration {applied} of {newest}: run `off migrate`"))
        }
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
            Err("the database was never migrated: run `off migrate`".to_owned())
        }
        Err(error) => {
            debug!("the database does not answer: {error}");
            Err("the database does not answer".to_owned())
        }
    }
}

/// Fails if the connections of `pool` share sessions, or if that cannot be determined within 12 s.
pub async fn refuse_shared_sessions(pool: &PgPool) -> anyhow::Result<()> {
    sessions::refuse_shared(pool, Some(CONNECT_TIMEOUT)).await
}

/// Waits until the database answers. After `timeout`, fails with the reason.
pub async fn connect(pool: &PgPool, timeout: Duration) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + timeout;
    let mut backoff = Backoff::default();
    while let Err(reason) = probe(pool).await {
        anyhow::ensure!(tokio::time::Instant::now() < deadline, reason);
        warn!("cannot connect to the database, retrying: {reason}");
        tokio::time::sleep(backoff.pause()).await;
    }
    Ok(())
}

/// Whether `error` is transient: the database is unavailable or overloaded, so that a retry may succeed.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        // The error of a connection whose peer died in the middle of a message.
        | sqlx::Error::Protocol(_) => true,
        // 08 connection, 40 rolled back to resolve a conflict, 53 out of resources, 55006 in use,
        // 57 operator intervention or a timeout, 58 system error.
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| ["08", "40", "53", "55006", "57", "58"].iter().any(|class| code.starts_with(class))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_contains_no_password() {
        let config = Config::at("postgres://off:secret@localhost:5432/off", 8);
        let shown = format!("{config:?}");
        assert!(!redact("postgres://localhost/off?password=secret").contains("secret"));
        assert!(!shown.contains("secret") && shown.contains("off:…@localhost"), "{shown}");
    }

    #[test]
    fn an_invalid_database_url_is_rejected() {
        assert!(parse_url("postgres://localhost/off").is_ok());
        for wrong in ["", "localhost", "mysql://localhost/off", "postgres//localhost"] {
            assert!(parse_url(wrong).is_err(), "{wrong} was accepted");
        }
    }
}
