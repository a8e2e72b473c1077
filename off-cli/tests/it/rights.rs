//! Each program works with its own permissions: a database role, a user of the broker, and passwords from files.

use crate::{off, stderr, stdout};
use futures::{FutureExt, StreamExt};
use off_events::{ORDERS_NEW, ORDERS_RANDOM, Order, headers::REQUEST_ID, streams};
use off_kit::{Bus, bus};
use off_servers::{find_nats_server, free_port};
use off_testkit::{Database, LENTILS, Log, Process, Program, add_product, eventually};
use sqlx::{Connection, PgConnection};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

const USERS: [&str; 7] = ["admin", "etl", "users", "orders", "notifications", "generator", "operator"];

/// A Postgres and a NATS with the production configuration, and the passwords of all users.
struct Production {
    database: Database,
    nats_port: u16,
    nats_log: PathBuf,
    folder: TempDir,
    _nats: Process,
}

impl Production {
    async fn start() -> Self {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let folder = tempfile::Builder::new().prefix("off-rights-").tempdir().unwrap();
        for user in USERS {
            fs::write(folder.path().join(user), format!("a-password-of-{user}:/@%\n")).unwrap();
        }
        let nats_port = free_port().unwrap();
        let config = fs::read_to_string(deploy.join("nats/prod.conf")).unwrap();
        let config = config
            .replace("\"0.0.0.0:4222\"", &format!("\"127.0.0.1:{nats_port}\""))
            .replace("http: \"0.0.0.0:8222\"", "")
            .replace("\"/data\"", &format!("\"{}\"", folder.path().join("data").display()));
        fs::write(folder.path().join("nats.conf"), config).unwrap();
        fs::copy(deploy.join("nats/users.conf"), folder.path().join("users.conf")).unwrap();
        let nats_log = folder.path().join("nats.log");
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.off/bin");
        let (program, _) = find_nats_server(&tools).await.unwrap();
        let mut nats = Process::new(program)
            .arguments([OsStr::new("--config"), folder.path().join("nats.conf").as_os_str()])
            .environment(USERS.map(|user| (format!("PASSWORD_{user}"), format!("\"a-password-of-{user}:/@%\""))))
            .log(Log::Appended(nats_log.clone()));
        nats.start().unwrap();
        // Roles are global to a server, so this test needs its own.
        let database = Database::with_own_server().await;
        Self { database, nats_port, nats_log, folder, _nats: nats }
    }

    /// The password file of `user`.
    fn password_file(&self, user: &str) -> String {
        self.folder.path().join(user).to_str().unwrap().to_owned()
    }

    /// The URL of the database for `user`, without a password.
    fn database_url(&self, user: &str) -> String {
        let (_, place) = self.database.url.rsplit_once('@').unwrap();
        format!("postgres://{user}@{place}")
    }

    /// The environment of a program that runs as `user`.
    fn settings(&self, user: &str) -> Vec<(&'static str, String)> {
        vec![
            ("DATABASE_URL", self.database_url(&format!("off_{user}"))),
            ("DATABASE_PASSWORD_FILE", self.password_file(user)),
            ("NATS_URL", format!("nats://{user}@127.0.0.1:{}", self.nats_port)),
            ("NATS_PASSWORD_FILE", self.password_file(user)),
        ]
    }

    async fn migrate(&self) {
        let output = off(&["migrate"])
            .env("DATABASE_URL", &self.database.url)
            .env("NATS_URL", format!("nats://admin@127.0.0.1:{}", self.nats_port))
            .env("NATS_PASSWORD_FILE", self.password_file("admin"))
            .env("OFF_ROLES", self.folder.path())
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }

    async fn serve(&self, name: &str, more: &[(&'static str, String)]) -> Program {
        let mut settings = self.settings(name);
        settings.push(("HTTP_SERVICE_PORT", "0".to_owned()));
        settings.extend_from_slice(more);
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, &**value)).collect();
        let program = Program::start_with(env!("CARGO_BIN_EXE_off"), &["serve", name], &settings).await;
        program.health.wait_until_ready().await;
        program
    }

    /// A connection to the database as `user`.
    async fn connect(&self, user: &str) -> PgConnection {
        let url = off_kit::secret::fill_in(
            &self.database_url(&format!("off_{user}")),
            Some(Path::new(&self.password_file(user))),
        );
        PgConnection::connect(&url.unwrap()).await.unwrap()
    }
}

#[tokio::test]
async fn every_program_works_with_its_own_permissions() {
    let production = Production::start().await;
    production.migrate().await;
    // A second migration changes nothing.
    production.migrate().await;
    add_product(&production.database.pool, LENTILS, "Red lentils").await;
    let fast = ["SUPPLIER_DELAY_MIN", "SUPPLIER_DELAY_MAX", "DELIVERY_DELAY_MIN", "DELIVERY_DELAY_MAX"];
    let fast = fast.map(|name| (name, "300ms".to_owned()));
    let users = production.serve("users", &[]).await;
    let orders = production.serve("orders", &[]).await;
    let notifications = production.serve("notifications", &fast).await;
    let generator_settings = [
        ("USERS_URL", users.http.base().to_owned()),
        ("ORDERS_URL", orders.http.base().to_owned()),
        ("GENERATOR_HOUSEHOLDS", "3".to_owned()),
        ("GENERATOR_RATE", "20".to_owned()),
    ];
    let generator = production.serve("generator", &[&generator_settings[..], &fast].concat()).await;

    eventually("orders are completed, and products are consumed", || async {
        let mut conn = production.connect("operator").await;
        let completed: i64 =
            sqlx::query_scalar("SELECT count(*) FROM orders.product_orders WHERE status = 'completed'")
                .fetch_one(&mut conn)
                .await
                .unwrap();
        let consumed: i64 = sqlx::query_scalar("SELECT count(*) FROM users.consumptions WHERE taken > 0")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        (completed > 5 && consumed > 5).then_some(())
    })
    .await;

    services_respond_only_to_inboxes(&production).await;
    let mut doctor = off(&["doctor"]);
    let output = doctor.envs(production.settings("operator")).output().await.unwrap();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));

    for program in [generator, notifications, orders, users] {
        assert!(program.terminate().await);
    }
    let mut audit = off(&["audit", "--patience", "10s"]);
    audit.envs(production.settings("operator"));
    let output = audit.output().await.unwrap();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    let log = fs::read_to_string(&production.nats_log).unwrap();
    let rejected: Vec<_> = log.lines().filter(|line| line.contains("Violation") || line.contains("[ERR]")).collect();
    assert!(rejected.is_empty(), "the broker rejected something that is needed: {rejected:#?}");
}

/// Sends `orders.random` with reply subjects on which only other users may publish: services respond only to inboxes.
async fn services_respond_only_to_inboxes(production: &Production) {
    let connect = async |user: &'static str| {
        let config = bus::Config {
            nats_password_file: Some(production.password_file(user).into()),
            ..bus::Config::at(&format!("nats://{user}@127.0.0.1:{}", production.nats_port))
        };
        Bus::connect(&config, user).await.unwrap()
    };
    let (bus, operator) = (connect("generator").await, connect("operator").await);
    let mut responses = operator.client.subscribe(ORDERS_NEW).await.unwrap();
    let mut completed = operator.client.subscribe(Order::COMPLETED).await.unwrap();
    operator.client.flush().await.unwrap();
    for reply in [Order::COMPLETED, "$JS.API.STREAM.PURGE.ORDERS"] {
        bus.client.publish_with_reply(ORDERS_RANDOM, reply, "".into()).await.unwrap();
    }
    let mut last = async_nats::HeaderMap::new();
    last.insert(REQUEST_ID, "last");
    bus.client.publish_with_headers(ORDERS_RANDOM, last, "".into()).await.unwrap();
    let mut received = 0;
    while received < 2 {
        let response = timeout(Duration::from_secs(10), responses.next()).await.unwrap().unwrap();
        let id = response.headers.as_ref().and_then(|headers| headers.get(REQUEST_ID));
        received += usize::from(id.is_some_and(|id| id.as_str() == "last"));
    }
    while let Some(Some(message)) = completed.next().now_or_never() {
        assert!(message.payload.windows(6).any(|part| part == b"status"), "a response arrived on orders.completed");
    }
    let orders = bus.jetstream.get_stream(streams::ORDERS.name).await.unwrap();
    assert_eq!(orders.cached_info().state.first_sequence, 1, "the stream was purged");
    operator.close().await;
    bus.close().await;
}

#[tokio::test]
async fn no_program_can_do_more_than_its_work() {
    let production = Production::start().await;
    production.migrate().await;
    for (user, statement) in [
        ("etl", "SELECT FROM users.users"),
        ("etl", "SELECT FROM orders.product_orders"),
        ("users", "SELECT FROM orders.product_orders"),
        ("users", "UPDATE users.deliveries SET quantity = 1"),
        ("users", "DELETE FROM users.users"),
        ("users", "UPDATE catalog.products SET name = 'mine'"),
        ("orders", "SELECT FROM users.users"),
        ("orders", "INSERT INTO users.deliveries DEFAULT VALUES"),
        ("orders", "DELETE FROM orders.product_orders"),
        ("orders", "CREATE TABLE orders.mine ()"),
        ("orders", "CREATE TABLE public.mine ()"),
        ("orders", "SELECT FROM outbox.messages"),
        (
            "users",
            "INSERT INTO outbox.messages (source, subject, event_id, body, occurred_at)
                    VALUES ('orders', 'orders.pending', 'x', '{}', now())",
        ),
        ("operator", "SELECT FROM users.users"),
        ("operator", "UPDATE orders.product_orders SET status = 'completed'"),
        ("operator", "DELETE FROM outbox.messages"),
    ] {
        let mut conn = production.connect(user).await;
        let error = sqlx::query(statement).execute(&mut conn).await.expect_err(statement);
        let code =
            error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default().into_owned();
        assert_eq!(code, "42501", "{user}: {statement}: {error}");
    }
    // A service does not see the outbox messages of another service.
    sqlx::query("INSERT INTO outbox.messages (source, subject, event_id, body, occurred_at) VALUES ('users', 'stock.low', 'x', '{}', now()), ('other', 'other', 'x', '{}', now())")
        .execute(&production.database.pool)
        .await
        .unwrap();
    let count = "SELECT count(*) FROM outbox.messages";
    for (user, expected) in [("users", 1), ("operator", 2)] {
        let seen: i64 = sqlx::query_scalar(count).fetch_one(&mut production.connect(user).await).await.unwrap();
        assert_eq!(seen, expected, "{user}");
    }
}

#[tokio::test]
async fn sample_and_duplicate_passwords_are_rejected() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/sample-secrets");
    let output = off(&["secrets", samples.to_str().unwrap()]).output().await.unwrap();
    let text = stdout(&output);
    assert!(!output.status.success() && text.contains("deploy/make-secrets"), "{text}");
    for user in USERS {
        assert!(text.contains(&format!("✗ {user}")), "{text}");
    }

    let own = TempDir::new().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/make-secrets");
    assert!(Command::new(script).arg(own.path()).status().await.unwrap().success());
    let output = off(&["secrets", own.path().to_str().unwrap()]).output().await.unwrap();
    assert!(output.status.success(), "{}", stdout(&output));
    fs::copy(own.path().join("users"), own.path().join("copy")).unwrap();
    let output = off(&["secrets", own.path().to_str().unwrap()]).output().await.unwrap();
    assert!(!output.status.success() && stdout(&output).contains("the same password"), "{}", stdout(&output));
}
