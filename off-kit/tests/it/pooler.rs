//! Postgres behind PgBouncer. Skipped if PgBouncer is not installed.

#![expect(clippy::print_stderr, reason = "reports why the test is skipped")]
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

use off_kit::db;
use off_servers::free_port;
use off_testkit::{Database, eventually};
use sqlx::{Connection, PgConnection};
use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};
use tempfile::TempDir;
use tokio::process::Child;
use url::Url;

struct Pooler {
    url: String,
    _process: Child,
    _folder: TempDir,
}

impl Pooler {
    /// Starts PgBouncer in front of `database` with this pool mode; `None` if it is not installed.
    async fn start(database: &Database, mode: &str) -> Option<Self> {
        Command::new("pgbouncer").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let target = Url::parse(&database.url).unwrap();
        let (user, name, port) = (target.username(), target.path().trim_start_matches('/'), free_port().unwrap());
        let password = target.password().unwrap_or_default();
        let users = folder.path().join("users.txt");
        std::fs::write(&users, format!("\"{user}\" \"{password}\"\n")).unwrap();
        let config = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{name} = host=127.0.0.1 port={} dbname={name} user={user} password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\nunix_socket_dir =\n\
             auth_file = {}\npool_mode = {mode}\nignore_startup_parameters = extra_float_digits\n",
            target.port().unwrap(),
            users.display(),
        );
        std::fs::write(&config, text).unwrap();
        let mut command = tokio::process::Command::new("pgbouncer");
        if nix::unistd::Uid::effective().is_root() {
            // PgBouncer refuses to run as root.
            command.args(["--user", "nobody"]);
        }
        let process = command.arg(&config).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let url = format!("postgres://{user}@127.0.0.1:{port}/{name}");
        eventually("the pooler answers", || async { PgConnection::connect(&url).await.ok() }).await;
        Some(Self { url, _process: process, _folder: folder })
    }
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_rejected() {
    let database = Database::new().await;
    let Some(pooler) = Pooler::start(&database, "transaction").await else {
        eprintln!("skipped: pgbouncer is not installed");
        return;
    };
    let pool = db::lazy_pool(&db::Config::at(&pooler.url, 4), "test").unwrap();
    let error = db::refuse_shared_sessions(&pool).await.unwrap_err();
    assert!(format!("{error:#}").contains("pool_mode = session"), "{error:#}");
}

#[tokio::test]
async fn a_pooler_in_session_mode_works() {
    let database = Database::new().await;
    let Some(pooler) = Pooler::start(&database, "session").await else {
        eprintln!("skipped: pgbouncer is not installed");
        return;
    };
    let pool = db::lazy_pool(&db::Config::at(&pooler.url, 4), "test").unwrap();
    db::refuse_shared_sessions(&pool).await.unwrap();
    assert_eq!(db::check(&pool, off_migrations::newest()).await, Ok(()));
}
