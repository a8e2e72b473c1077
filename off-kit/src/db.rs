//! Postgres: the pool, the migrations, and which errors mean that it is only away.

mod held;
mod probe;
mod sessions;

pub use held::HeldConnection;
pub use probe::{describe, probe};

use crate::{Kit, Tasks, backoff::Backoff, secret};
use anyhow::Context;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use metrics::gauge;
use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{fmt, io, path::PathBuf, str::FromStr, time::Duration};
use tokio::{runtime::Handle, sync::watch};
use tracing::{debug, warn};

/// All of the database's history, in order.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// How long a connection may lie idle before it is asked whether it still lives.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// How long a connection may take to be made that no request waits for.
const CONNECT_WITHIN: Duration = Duration::from_secs(12);

/// How long the database may take for a piece of work, more than for a statement. A host that vanishes closes no connection, and
/// sqlx sets no keepalive that would tell (<https://github.com/transact-rs/sqlx/issues/3540>).
const WORK_WITHIN: Duration = Duration::from_secs(20);

/// How long a connection may take to answer when its work was done or given up; one that does not is closed.
const RETURN_WITHIN: Duration = Duration::from_secs(5);

/// How often connections are counted, and missing ones opened.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// Where Postgres is.
#[derive(Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The database, like postgres://user:password@host:5432/off.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: String,
    /// A file that holds the password of the address's user, where the address does not.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// The most connections this service holds open for requests and messages; recovery, the outbox, health checks and the
    /// intake of orders have one each beside them.
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 8, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=500))]
    pub database_connections: u32,
}

impl Config {
    /// At most `connections` to the database at `url`, which has its password.
    pub fn at(url: &str, connections: u32) -> Self {
        Self { database_url: url.to_owned(), database_password_file: None, database_connections: connections }
    }

    fn options(&self) -> anyhow::Result<PgConnectOptions> {
        let url =
            secret::fill_in(&self.database_url, self.database_password_file.as_deref()).context("DATABASE_URL")?;
        parse_url(&url)
    }
}

/// The password shows as dots.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("database_url", &redact(&self.database_url))
            .field("database_password_file", &self.database_password_file)
            .field("database_connections", &self.database_connections)
            .finish()
    }
}

/// `url` without its password, for people to read.
pub fn redact(url: &str) -> String {
    url::Url::parse(url).map_or_else(
        |_| "…".to_owned(),
        |mut url| {
            if url.password().is_some() {
                // Only a URL without a host refuses a password, and that one has none.
                let _ = url.set_password(Some("…"));
            }
            url.set_query(None);
            url.to_string().replace("%E2%80%A6", "…")
        },
    )
}

/// Says nothing of the text when it is wrong: it may hold a password.
fn parse_url(text: &str) -> anyhow::Result<PgConnectOptions> {
    let usable = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let options = PgConnectOptions::from_str(text).ok().filter(|_| usable);
    options.context("DATABASE_URL: expected postgres://user:password@host:port/database")
}

/// A pool that connects when it is first used, so that a service starts while Postgres is still away.
pub fn lazy_pool(config: &Config, application: &str) -> anyhow::Result<PgPool> {
    let options = config.options()?.application_name(application);
    Ok(pool_options(config.database_connections, &options).connect_lazy_with(options))
}

/// What every pool has in common. A connection that was just used is used again as it is; only one that lay idle is asked first
/// whether it still lives.
fn pool_options(connections: u32, options: &PgConnectOptions) -> PgPoolOptions {
    let options = options.clone();
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(3))
        .test_before_acquire(false)
        .before_acquire(|conn, used| {
            Box::pin(async move {
                if used.idle_for > ASK_AFTER {
                    conn.ping().await?;
                }
                Ok(true)
            })
        })
        // By itself sqlx waits for good until a connection has finished what was given up.
        .after_release(move |conn, _| {
            let options = options.clone();
            Box::pin(async move {
                let answered = tokio::time::timeout(RETURN_WITHIN, conn.ping()).await;
                if let Ok(pong) = answered {
                    return pong.map(|()| true);
                }
                // To close it may take for good, too: what is left to be sent is sent first. One that is dropped sends nothing.
                *conn = reconnect(&options).await;
                Ok(false)
            })
        })
}

/// A new connection, once Postgres is back. Its pool has no other in its place until then.
async fn reconnect(options: &PgConnectOptions) -> PgConnection {
    let mut backoff = Backoff::default();
    loop {
        match tokio::time::timeout(CONNECT_WITHIN, PgConnection::connect_with(options)).await {
            Ok(Ok(conn)) => return conn,
            Ok(Err(error)) => debug!("the database is not back yet: {error}"),
            Err(_) => debug!("the database is not back yet"),
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Gives `work` up when the database does not finish it in time: whoever waits for it can try again on another connection.
/// It may have been committed all the same.
pub async fn with_timeout<T, E: From<sqlx::Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    tokio::time::timeout(WORK_WITHIN, work).await.unwrap_or_else(|_| Err(no_answer().into()))
}

/// What is said of a database that did not answer in time.
fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database did not answer in time"))
}

/// The settings of a service's sessions. Each query finds a few rows by an index, in tables that grow faster than they are
/// analysed: the planner would take them for small, and read them whole. A statement ends before its service gives it up, so that
/// nothing is stored behind its back. And the session of a service that is frozen, cut off, or gone ends soon, whether it is idle
/// or Postgres waits for it to read: recovery waits for the oldest transaction, and others for the rows that it has locked.
macro_rules! session_settings {
    () => {
        "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; \
         SET statement_timeout = '15s'; SET idle_in_transaction_session_timeout = '30s'; SET tcp_user_timeout = '30s'; \
         SET tcp_keepalives_idle = '30s'; SET tcp_keepalives_interval = '10s'; SET tcp_keepalives_count = 3"
    };
}

/// One more connection beside `pool`, for work that is harmless when it is repeated: its commits do not wait until they are
/// on disk, so a crash of Postgres may undo the last of them.
pub fn background_pool(pool: &PgPool) -> PgPool {
    let beside = pool.clone();
    let options =
        pool_options(1, &pool.connect_options()).acquire_timeout(CONNECT_WITHIN).after_connect(move |conn, _| {
            let beside = beside.clone();
            Box::pin(async move {
                // Connections of `pool` wait until it is known that sessions are not shared, and so does this one.
                drop(beside.acquire().await?);
                sqlx::raw_sql(concat!(session_settings!(), "; SET synchronous_commit = off")).execute(conn).await?;
                Ok(())
            })
        });
    options.connect_lazy_with(pool.connect_options().as_ref().clone())
}

/// The pool of a service, which from now on is ready only while Postgres is, and is migrated. The service ends with an error
/// where its connections share sessions.
pub fn pool_for(kit: &Kit, config: &Config) -> anyhow::Result<PgPool> {
    let options = config.options()?.application_name(&format!("off-{}", kit.name));
    let (passed, own_sessions) = watch::channel(false);
    let gate = own_sessions.clone();
    let pool = pool_options(config.database_connections, &options).after_connect(move |conn, _| {
        let mut gate = gate.clone();
        Box::pin(async move {
            // Settings must never reach the session of another connection.
            gate.wait_for(|passed| *passed).await.map_err(|_| sqlx::Error::PoolClosed)?;
            // Not as start-up options: PgBouncer refuses or drops those.
            sqlx::raw_sql(session_settings!()).execute(conn).await?;
            Ok(())
        })
    });
    let pool = pool.connect_lazy_with(options.clone());
    keep_connections(kit, &pool, config.database_connections);
    // A connection of its own: a service that is busy is not unready. It is made at once and kept for good, because connecting
    // takes seconds where there is much to do: sqlx lets others run again and again while it hashes the password.
    let checked = pool_options(1, &options).acquire_timeout(CONNECT_WITHIN).idle_timeout(None).max_lifetime(None);
    let checked = checked.connect_lazy_with(options);
    let sessions = checked.clone();
    kit.needs.add("postgres", move || {
        let (pool, passed) = (checked.clone(), *own_sessions.borrow());
        async move {
            check(&pool).await?;
            if passed { Ok(()) } else { Err("it is not known yet whether its sessions are shared".to_owned()) }
        }
    });
    let tasks = kit.tasks.clone();
    kit.tasks.spawn("session check", async move {
        tokio::select! {
            checked = sessions::refuse_shared(&sessions, None) => checked?,
            () = tasks.stopping() => {}
        }
        passed.send_replace(true);
        // A task that ends, ends the service.
        tasks.stopping().await;
        Ok(())
    });
    Ok(pool)
}

/// Lets a service be ready only while its clock and the database's differ by less than `tolerance`.
pub fn need_same_time(kit: &Kit, pool: &PgPool, tolerance: Duration) {
    let (pool, clock) = (pool.clone(), kit.clock);
    kit.needs.add("clock", move || {
        let pool = pool.clone();
        async move {
            let time = sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "time!""#).fetch_one(&pool).await;
            let time: DateTime<Utc> = time.map_err(|_| "the database does not tell the time".to_owned())?;
            let difference = clock.now() - time;
            if difference.abs().to_std().is_ok_and(|difference| difference < tolerance) {
                return Ok(());
            }
            Err(format!("this machine's clock is {} s ahead of the database's", difference.num_seconds()))
        }
    });
}

/// Makes connections before they are needed, and shows how many are open and in use.
fn keep_connections(kit: &Kit, pool: &PgPool, most: u32) {
    let (pool, service, tasks) = (pool.clone(), kit.name, kit.tasks.clone());
    kit.tasks.spawn("connections", async move {
        loop {
            fill(&pool, most, &tasks).await;
            let (open, idle) = (pool.size() as usize, pool.num_idle());
            gauge!("off_database_connections", "service" => service).set(open as f64);
            gauge!("off_database_connections_in_use", "service" => service).set(open.saturating_sub(idle) as f64);
            tokio::select! {
                () = tasks.stopping() => return Ok(()),
                () = tokio::time::sleep(COUNT_EVERY) => {}
            }
        }
    });
}

/// Opens the connections that are missing to `most`, on a thread of its own: sqlx yields some 800 times while it hashes a
/// password, each time to all tasks that can run, so where they are many a connection takes longer than anybody waits for it.
async fn fill(pool: &PgPool, most: u32, tasks: &Tasks) {
    if pool.size() >= most {
        return;
    }
    // Those that lie idle come first.
    let wanted = (most - pool.size()) as usize + pool.num_idle();
    let (runtime, pool, tasks) = (Handle::current(), pool.clone(), tasks.clone());
    let filled = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                // Held until all are there: else the first ones would be taken again.
                opened = join_all((0..wanted).map(|_| pool.acquire())) => opened.into_iter().find_map(Result::err),
                () = tasks.stopping() => None,
            }
        })
    });
    if let Ok(Some(error)) = filled.await {
        debug!("not all connections are open: {error}");
    }
}

/// Whether the database answers and has every migration; else what is wrong, in words.
pub async fn check(pool: &PgPool) -> Result<(), String> {
    let applied: Result<Option<i64>, _> =
        sqlx::query_scalar!("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(pool).await;
    let wanted = MIGRATIONS.iter().map(|migration| migration.version).max();
    match applied {
        Ok(applied) if applied >= wanted => Ok(()),
        Ok(applied) => Err(format!(
            "the database is at migration {} of {}: run `off migrate`",
            applied.unwrap_or(0),
            wanted.unwrap_or(0)
        )),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
            Err("the database was never migrated: run `off migrate`".to_owned())
        }
        Err(error) => {
            debug!("the database does not answer: {error}");
            Err("the database does not answer".to_owned())
        }
    }
}

/// An error where the connections of `pool` share sessions, or where that is not known after a while.
pub async fn refuse_shared_sessions(pool: &PgPool) -> anyhow::Result<()> {
    sessions::refuse_shared(pool, Some(CONNECT_WITHIN)).await
}

/// Waits until the database answers, at most `patience`; an error says why it does not.
pub async fn connect(pool: &PgPool, patience: Duration) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + patience;
    let mut backoff = Backoff::default();
    while let Err(reason) = probe(pool).await {
        anyhow::ensure!(tokio::time::Instant::now() < deadline, reason);
        warn!("trying again: {reason}");
        tokio::time::sleep(backoff.pause()).await;
    }
    Ok(())
}

/// Whether the database has tables and was never migrated by off.
pub async fn is_of_another(pool: &PgPool) -> anyhow::Result<bool> {
    let is_of_another = sqlx::query_scalar!(
        r#"SELECT to_regclass('_sqlx_migrations') IS NULL AND EXISTS (
               SELECT FROM pg_class JOIN pg_namespace AS schema ON schema.oid = relnamespace
               WHERE relkind IN ('r', 'p', 'v', 'm') AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
                 -- What extensions bring is nobody's.
                 AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
           ) AS "is_of_another!""#
    );
    is_of_another.fetch_one(pool).await.context("cannot look at what the database holds")
}

/// Brings the database up to date; waits `patience` for one that is away.
pub async fn migrate(pool: &PgPool, patience: Duration) -> anyhow::Result<()> {
    connect(pool, patience).await?;
    refuse_shared_sessions(pool).await?;
    MIGRATIONS.run(pool).await.context("a migration failed; the ones before it are applied")
}

/// Whether `error` speaks of the database being away or overloaded, so that trying again helps.
pub fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        // What a connection says whose other end died in the middle of a sentence.
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
    fn a_password_never_shows() {
        let config = Config::at("postgres://off:secret@localhost:5432/off", 8);
        let shown = format!("{config:?}");
        assert!(!redact("postgres://localhost/off?password=secret").contains("secret"));
        assert!(!shown.contains("secret") && shown.contains("off:…@localhost"), "{shown}");
    }

    #[test]
    fn a_database_url_is_checked_before_it_is_used() {
        assert!(parse_url("postgres://localhost/off").is_ok());
        for wrong in ["", "localhost", "mysql://localhost/off", "postgres//localhost"] {
            assert!(parse_url(wrong).is_err(), "{wrong} was taken");
        }
    }
}
