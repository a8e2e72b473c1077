//! A database for one test.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::{Connection, PgConnection, PgPool};
use std::{env, path::Path};
use tempfile::TempDir;
use uuid::Uuid;

/// The environment variable with the URL of the Postgres that tests share.
pub const SHARED_POSTGRES: &str = "OFF_TEST_POSTGRES";

/// A database for one test, in the shared Postgres or, if there is none, in a private one.
#[derive(Debug)]
pub struct Database {
    /// Its URL.
    pub url: String,
    /// Connections to it.
    pub pool: PgPool,
    /// `None` if the server is shared. A private server is stopped when the test ends.
    pub server: Option<off_servers::Postgres>,
    /// The private server's files, removed when the test ends.
    folder: Option<TempDir>,
}

/// Starts a Postgres with the migrated database `off`. It runs without durability (no `fsync`), to be fast.
pub async fn start_postgres(folder: &Path) -> anyhow::Result<off_servers::Postgres> {
    let (programs, _) = off_servers::find_postgres().await?;
    // If root runs the tests, the server runs as another user, which needs access to its files.
    make_reachable(folder)?;
    let settings = ["fsync=off", "full_page_writes=off", "synchronous_commit=off"];
    let postgres = off_servers::Postgres::start(&programs, &folder.join("postgres"), &settings).await?;
    let pool = PgPool::connect(&postgres.url).await?;
    off_migrations::apply(&pool).await?;
    pool.close().await;
    Ok(postgres)
}

fn make_reachable(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?)
}

impl Database {
    /// A migrated, empty database.
    pub async fn new() -> Self {
        match env::var_os(SHARED_POSTGRES) {
            Some(url) => {
                let (base, template) =
                    url.to_str().and_then(|url| url.rsplit_once('/')).expect("the URL contains a database name");
                Self::create_from_template(base, template).await
            }
            None => Self::with_own_server().await,
        }
    }

    /// A migrated, empty database in a private server, which the test may stop or kill.
    pub async fn with_own_server() -> Self {
        let folder = tempfile::Builder::new().prefix("off-test-").tempdir().expect("a temporary folder");
        let server = start_postgres(folder.path()).await.expect("Postgres starts");
        let pool = PgPool::connect(&server.url).await.expect("a connection to Postgres");
        Self { url: server.url.clone(), pool, server: Some(server), folder: Some(folder) }
    }

    /// A database without any schema of this project.
    pub async fn empty() -> Self {
        let other = Self::new().await;
        let (base, _) = other.url.rsplit_once('/').expect("the URL contains a database name");
        let empty = Self::create_from_template(base, "template1").await;
        Self { server: other.server, folder: other.folder, ..empty }
    }

    /// Freezes the Postgres sessions of a program, as if their host had vanished. New sessions work as usual. Requires
    /// a private server.
    pub async fn freeze_sessions(&self, application: &str) -> FrozenSessions {
        let sessions: Vec<i32> = sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE application_name = $1")
            .bind(application)
            .fetch_all(&self.pool)
            .await
            .expect("the sessions can be listed");
        let sessions = FrozenSessions(sessions.into_iter().map(Pid::from_raw).collect());
        sessions.signal(Signal::SIGSTOP);
        sessions
    }

    async fn create_from_template(base: &str, template: &str) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        let mut conn = PgConnection::connect(&format!("{base}/postgres")).await.expect("a connection to Postgres");
        // Postgres copies a template only while nobody else uses it, so the lock serializes the copies.
        sqlx::query("SELECT pg_advisory_lock(1)").execute(&mut conn).await.expect("the advisory lock is acquired");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE {template}"));
        sqlx::query(create).execute(&mut conn).await.expect("the database is created");
        conn.close().await.expect("the connection closes");
        let url = format!("{base}/{name}");
        let pool = PgPool::connect(&url).await.expect("a connection to the new database");
        Self { url, pool, server: None, folder: None }
    }
}

/// Postgres sessions that are stopped. Dropping this continues them, so that their server can shut down.
#[derive(Debug)]
pub struct FrozenSessions(Vec<Pid>);

impl FrozenSessions {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn signal(&self, signal: Signal) {
        for &session in &self.0 {
            // The session may have ended already.
            let _ = kill(session, signal);
        }
    }
}

impl Drop for FrozenSessions {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
    }
}
