//! A migrated database for one test.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use off_kit::{db, servers};
use sqlx::{Connection, PgConnection, PgPool};
use std::{env, path::Path};
use tempfile::TempDir;
use uuid::Uuid;

/// The environment variable in which a test finds the Postgres it shares with others.
pub const SHARED_POSTGRES: &str = "OFF_TEST_POSTGRES";

/// A database of the test's own, in a Postgres that is shared or, without that, its own too.
#[derive(Debug)]
pub struct Database {
    pub url: String,
    pub pool: PgPool,
    /// `None` where the server is shared. Stopped when the test ends.
    pub server: Option<servers::Postgres>,
    /// Where that server's files are, until the test ends.
    folder: Option<TempDir>,
}

/// Starts a Postgres that forgets everything on a power cut, with the database `off` migrated.
pub async fn start_postgres(folder: &Path) -> anyhow::Result<servers::Postgres> {
    let (programs, _) = servers::find_postgres().await?;
    // The server's user has to get to its files when root runs the tests.
    make_reachable(folder)?;
    let settings = ["fsync=off", "full_page_writes=off", "synchronous_commit=off"];
    let postgres = servers::Postgres::start(&programs, &folder.join("postgres"), &settings).await?;
    let pool = PgPool::connect(&postgres.url).await?;
    db::MIGRATIONS.run(&pool).await?;
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
                let (base, template) = url.to_str().and_then(|url| url.rsplit_once('/')).expect("it names a database");
                Self::copy_of(base, template).await
            }
            None => Self::in_own().await,
        }
    }

    /// A database whose server belongs to this test alone, to be stopped or killed as it likes.
    pub async fn in_own() -> Self {
        let folder = tempfile::Builder::new().prefix("off-test-").tempdir().expect("a temporary folder");
        let server = start_postgres(folder.path()).await.expect("a Postgres of the test's own");
        let pool = PgPool::connect(&server.url).await.expect("a connection to it");
        Self { url: server.url.clone(), pool, server: Some(server), folder: Some(folder) }
    }

    /// A database with nothing in it, not even our schemas.
    pub async fn empty() -> Self {
        let beside = Self::new().await;
        let (base, _) = beside.url.rsplit_once('/').expect("it names a database");
        let empty = Self::copy_of(base, "template1").await;
        Self { server: beside.server, folder: beside.folder, ..empty }
    }

    /// Has the sessions of a program never answer again, as when their host vanishes; new ones are as always. For a server of the
    /// test's own.
    pub async fn freeze_sessions(&self, application: &str) -> FrozenSessions {
        let sessions: Vec<i32> = sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE application_name = $1")
            .bind(application)
            .fetch_all(&self.pool)
            .await
            .expect("the sessions");
        let sessions = FrozenSessions(sessions.into_iter().map(Pid::from_raw).collect());
        sessions.signal(Signal::SIGSTOP);
        sessions
    }

    async fn copy_of(base: &str, template: &str) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        let mut conn = PgConnection::connect(&format!("{base}/postgres")).await.expect("a connection to Postgres");
        // A template has no other users while it is copied; the lock lets the tests take turns.
        sqlx::query("SELECT pg_advisory_lock(1)").execute(&mut conn).await.expect("the lock");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE {template}"));
        sqlx::query(create).execute(&mut conn).await.expect("a new database");
        conn.close().await.expect("closed");
        let url = format!("{base}/{name}");
        let pool = PgPool::connect(&url).await.expect("a connection to the new database");
        Self { url, pool, server: None, folder: None }
    }
}

/// Sessions that do not answer. They end with this, so that their server can stop.
#[derive(Debug)]
pub struct FrozenSessions(Vec<Pid>);

impl FrozenSessions {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn signal(&self, signal: Signal) {
        for &session in &self.0 {
            // One that has ended needs none.
            let _ = kill(session, signal);
        }
    }
}

impl Drop for FrozenSessions {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
    }
}
