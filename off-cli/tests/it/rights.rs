//! Each program works with its own permissions: a database role, a user of the broker, and passwords from files.

mod forbidden;

use crate::{off, stderr, stdout};
use futures::{FutureExt, StreamExt};
use off_etl::{Choice, Export, ImportOptions, NoObserver, Profile};
use off_events::{ORDERS_NEW, ORDERS_RANDOM, Order, headers::REQUEST_ID, streams};
use off_kit::{Bus, bus};
use off_servers::{find_nats_server, free_port};
use off_testkit::{Database, Http, LENTILS, Log, Process, Program, add_product, eventually};
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, PgConnection, PgPool};
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

/// The password files of roles and of users of the broker.
const USERS: [&str; 10] =
    ["admin", "etl", "auth", "users", "orders", "billing", "notifications", "generator", "gateway", "operator"];

/// The other secret files.
const SECRETS: [&str; 3] = ["auth_secret", "client_generator", "client_operator"];

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
        // It keeps those, and makes the others.
        make_secrets(folder.path()).await;
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

    /// The secret file with this name; the password of a user has the user's name.
    fn secret_file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
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
            ("DATABASE_PASSWORD_FILE", self.secret_file(user)),
            ("NATS_URL", format!("nats://{user}@127.0.0.1:{}", self.nats_port)),
            ("NATS_PASSWORD_FILE", self.secret_file(user)),
            ("ALLOW_FAULTS", "true".to_owned()),
        ]
    }

    async fn migrate(&self) {
        let output = off(&["migrate"])
            .env("DATABASE_URL", &self.database.url)
            .env("NATS_URL", format!("nats://admin@127.0.0.1:{}", self.nats_port))
            .env("NATS_PASSWORD_FILE", self.secret_file("admin"))
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

    /// The URL of the database for the role of `user`, with its password.
    fn full_database_url(&self, user: &str) -> String {
        let url = self.database_url(&format!("off_{user}"));
        off_kit::secret::fill_in(&url, Some(Path::new(&self.secret_file(user)))).unwrap()
    }

    /// A connection to the database as `user`.
    async fn connect(&self, user: &str) -> PgConnection {
        PgConnection::connect(&self.full_database_url(user)).await.unwrap()
    }

    /// Asserts that the role of `user` may not execute `statement`.
    async fn assert_refused(&self, user: &str, statement: &'static str) {
        let mut conn = self.connect(user).await;
        let Err(error) = sqlx::query(statement).execute(&mut conn).await else {
            panic!("{user} may {statement}");
        };
        let code =
            error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default().into_owned();
        assert_eq!(code, "42501", "{user}: {statement}: {error}");
    }
}

/// Runs `deploy/make-secrets` for `folder`.
async fn make_secrets(folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/make-secrets");
    assert!(Command::new(script).arg(folder).status().await.unwrap().success());
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
    let auth = production.serve("auth", &[("AUTH_SECRET_FILE", production.secret_file("auth_secret"))]).await;
    let keys = [("AUTH_JWKS_URL", format!("{}/.well-known/jwks.json", auth.http.base()))];
    let auth_url = ("AUTH_URL", auth.http.base().to_owned());
    let users = production.serve("users", &[&keys[..], &[auth_url]].concat()).await;
    let orders = production.serve("orders", &keys).await;
    let billing = production.serve("billing", &keys).await;
    // Nothing listens there, so that e-mails are leased, tried, and queued again.
    let mail = ("SMTP_URL", "smtp://127.0.0.1:1".to_owned());
    let notifications = production.serve("notifications", &[&keys[..], &fast, &[mail]].concat()).await;
    let operator = production.serve("operator", &[&keys[..], &[("AUDIT_PATIENCE", "5s".to_owned())]].concat()).await;
    let places = [
        ("AUTH_URL", auth.http.base()),
        ("AUTH_HEALTH_URL", auth.health.base()),
        ("USERS_URL", users.http.base()),
        ("USERS_HEALTH_URL", users.health.base()),
        ("ORDERS_URL", orders.http.base()),
        ("ORDERS_HEALTH_URL", orders.health.base()),
        ("BILLING_URL", billing.http.base()),
        ("BILLING_HEALTH_URL", billing.health.base()),
        ("NOTIFICATIONS_URL", notifications.http.base()),
        ("NOTIFICATIONS_HEALTH_URL", notifications.health.base()),
        ("OPERATOR_URL", operator.http.base()),
        ("OPERATOR_HEALTH_URL", operator.health.base()),
    ];
    let places = places.map(|(name, url)| (name, url.to_owned()));
    let gateway = production.serve("gateway", &[&keys[..], &places].concat()).await;
    let generator_settings = [
        ("USERS_URL", gateway.http.base().to_owned()),
        ("ORDERS_URL", gateway.http.base().to_owned()),
        ("BILLING_URL", gateway.http.base().to_owned()),
        ("AUTH_TOKEN_URL", format!("{}/oauth/token", gateway.http.base())),
        ("CLIENT_SECRET_FILE", production.secret_file("client_generator")),
        ("GENERATOR_HOUSEHOLDS", "3".to_owned()),
        ("GENERATOR_RATE", "20".to_owned()),
    ];
    let generator = production.serve("generator", &[&keys[..], &generator_settings, &fast].concat()).await;
    a_person_uses_their_account(&gateway.http.anonymous()).await;
    a_person_uses_their_money(&production, &gateway.http.anonymous()).await;
    a_person_reads_their_letters(&production, &gateway.http.anonymous()).await;

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

    an_operator_uses_everything(&production, &gateway.http.anonymous()).await;
    for program in [generator, gateway, operator, notifications, billing, orders, users, auth] {
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

#[tokio::test]
async fn the_importer_works_with_its_own_permissions() {
    let production = Production::start().await;
    production.migrate().await;
    let pool = PgPool::connect(&production.full_database_url("etl")).await.unwrap();
    let (choice, folder) = (Choice::from(Profile::Default), production.folder.path());
    let options = ImportOptions { choice: &choice, downloads: folder, db: Some(&pool) };
    for _ in 0..2 {
        off_etl::import(&Export::Sample, options, &mut NoObserver).await.unwrap().complete().unwrap();
    }
    let list_price = async || -> i64 {
        let query = sqlx::query_scalar("SELECT price_cents FROM catalog.products WHERE barcode = $1").bind(LENTILS);
        query.fetch_one(&pool).await.unwrap()
    };
    let invented = list_price().await;
    // The second export has no price in euros any more.
    for (price, currency, expected) in [("3.21", "EUR", 321), ("4.00", "CHF", invented)] {
        let path = folder.join("prices.jsonl");
        let line = json!({ "product_code": LENTILS, "price": price, "currency": currency, "date": "2025-06-30" });
        fs::write(&path, line.to_string()).unwrap();
        let changes = off_etl::import_prices(&path, Some(&pool), &mut NoObserver).await.unwrap().changes.unwrap();
        assert_eq!((changes.new, changes.products), (1, 1));
        assert_eq!(list_price().await, expected);
    }
}

/// Uses every query and message of the operator service.
async fn an_operator_uses_everything(production: &Production, gateway: &Http) {
    let secret = off_kit::secret::read(Path::new(&production.secret_file("client_operator"))).unwrap();
    let request = gateway.request(Method::POST, "/oauth/token").basic_auth("operator", Some(secret));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let token: serde_json::Value =
        request.body("grant_type=client_credentials").send().await.unwrap().json().await.unwrap();
    let operator = gateway.with_token(token["access_token"].as_str().unwrap());
    let config = bus::Config {
        nats_url: format!("nats://orders@127.0.0.1:{}", production.nats_port),
        nats_password_file: Some(production.secret_file("orders").into()),
        allow_faults: false,
    };
    let bus = Bus::connect(&config, "orders").await.unwrap();
    for _ in 0..3 {
        let published = bus.jetstream.publish(Order::PENDING, "not an order".into()).await.unwrap();
        published.await.unwrap();
    }
    let letters = eventually("the messages are dead letters", || async {
        let page = operator.get("/api/operator/dead-letters?consumer=billing-pending").await.body;
        let letters = page["dead_letters"].as_array()?.clone();
        (letters.len() == 3).then_some(letters)
    })
    .await;
    let path = |index: usize, action: &str| format!("/api/operator/dead-letters/{}{action}", letters[index]["number"]);
    assert_eq!(operator.get(&path(0, "")).await.body["body"], "not an order");
    assert_eq!(operator.post(&path(0, "/replay"), &json!({})).await.status, 200);
    assert_eq!(operator.post(&path(1, "/drop"), &json!({"why": "a test"})).await.status, 200);
    let replay = operator.post("/api/operator/replays", &json!({"consumer": "billing-pending"})).await;
    assert_eq!(replay.status, 202, "{replay:?}");
    let switch = json!({"consumer": "supplier", "amount": 1, "seconds": 60});
    let path = "/api/operator/faults/consumer_slow";
    assert_eq!(operator.put(path, &switch).await.status, 200);
    assert_eq!(operator.get("/api/operator/faults").await.body["switches"][3]["fault"]["consumer"], "supplier");
    assert_eq!(operator.delete(path).await.status, 204);
    for path in ["/api/operator/streams", "/api/operator/overdue-orders", "/api/operator/imports"] {
        assert_eq!(operator.get(path).await.status, 200, "{path}");
    }
    assert_eq!(operator.get("/api/operator/imports/1/rejects").await.status, 404);
    assert_eq!(operator.post("/api/operator/audits", &json!({})).await.status, 202);
    let audit = eventually("the audit has ended", || async {
        let state = operator.get("/api/operator/audits/latest").await.body;
        state["running_since"].is_null().then_some(state)
    })
    .await;
    assert_eq!(audit["latest"]["passed"], true, "{audit}");
    let run = operator.get("/api/operator/replays/latest").await.body;
    assert_eq!((&run["failure"], run["ended_at"].is_string()), (&json!(null), true), "{run}");
    bus.close().await;
}

/// Uses every statement of the auth service and of the users service that changes an account.
async fn a_person_uses_their_account(gateway: &Http) {
    let (email, password) = ("ada@example.org", "correct horse battery");
    let registered = gateway
        .post(
            "/api/register",
            &json!({
                "user": { "first_name": "Ada", "last_name": "Example", "email": email, "password": password },
                "devices": [{ "mac_address": "02:00:00:00:00:01" }],
            }),
        )
        .await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let (id, ssd) = (&registered.body["user_id"], &registered.body["devices"][0]["ssd_id"]);
    let session = &registered.body["session"];
    let refreshed = gateway.post("/api/refresh", &json!({ "refresh_token": session["refresh_token"] })).await;
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    let ada = gateway.with_token(refreshed.body["access_token"].as_str().unwrap());

    let profile = json!({ "first_name": "Ada", "last_name": "Byron", "email": "ada.byron@example.org" });
    let changed = ada.put(&format!("/api/users/{id}"), &profile).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let device = ada.post("/api/devices", &json!({ "mac_address": "02:00:00:00:00:02" })).await;
    assert_eq!(device.status, 201, "{device:?}");
    let key = ada.post(&format!("/api/devices/{ssd}/keys"), &json!({})).await;
    assert_eq!(key.status, 201, "{key:?}");
    let as_device = gateway.request(Method::GET, &format!("/api/devices/{ssd}"));
    let shown = as_device.basic_auth(format!("ssd-{ssd}"), key.body["key"].as_str()).send().await.unwrap();
    assert_eq!(shown.status(), 200);
    let revoked = ada.delete(&format!("/api/devices/{ssd}/keys/{}", key.body["id"].as_str().unwrap())).await;
    assert_eq!(revoked.status, 204, "{revoked:?}");

    let passwords = json!({ "old_password": password, "new_password": "another horse battery" });
    let changed = ada.put("/api/password", &passwords).await;
    assert_eq!(changed.status, 204, "{changed:?}");
    let sign_in = json!({ "email": "ada.byron@example.org", "password": "another horse battery" });
    let signed_in = gateway.post("/api/login", &sign_in).await;
    assert_eq!(signed_in.status, 200, "{signed_in:?}");
    let signed_out = gateway.post("/api/logout", &json!({ "refresh_token": signed_in.body["refresh_token"] })).await;
    assert_eq!(signed_out.status, 204, "{signed_out:?}");
    let ada = gateway.with_token(signed_in.body["access_token"].as_str().unwrap());
    eventually("the revocation is known", || async { (ada.get("/api/sessions").await.status == 401).then_some(()) })
        .await;
}

/// Uses the statements of the notifications service, and the message about a low balance.
async fn a_person_reads_their_letters(production: &Production, gateway: &Http) {
    let person = json!({"first_name": "Carol", "last_name": "Example", "email": "carol@mail.nowhere",
        "password": "correct horse battery"});
    let household = json!({"user": person, "devices": [{"mac_address": "02:00:00:00:00:04"}]});
    let registered = gateway.post("/api/register", &household).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let carol = gateway.with_token(registered.body["session"]["access_token"].as_str().unwrap());
    let paid = carol
        .post_with_key("/api/account/deposits", "all", &json!({"amount": {"amount": 2_000, "currency": "EUR"}}))
        .await;
    assert_eq!(paid.status, 201, "{paid:?}");
    let order = json!({"ssd_id": registered.body["devices"][0]["ssd_id"], "barcode": LENTILS, "quantity": 1});
    let placed = carol.post("/api/orders", &order).await;
    assert_eq!(placed.status, 201, "{placed:?}");

    let newest = eventually("each letter is written", || async {
        let page = carol.get("/api/letters").await.body;
        let letters = page["letters"].as_array()?;
        let has = |kind: &str| letters.iter().any(|letter| letter["kind"] == kind);
        let has_all = ["welcome", "paid", "low_balance", "delivered"].into_iter().all(has);
        has_all.then(|| letters[0]["id"].clone())
    })
    .await;
    // The messages of the order, and the events since it, which the gateway follows.
    let id = placed.body["id"].as_str().unwrap();
    let messages = carol.get(&format!("/api/orders/{id}/messages")).await;
    assert!(messages.body["messages"].as_array().is_some_and(|messages| messages.len() >= 4), "{messages:?}");
    let delivery = format!("/api/devices/{}/deliveries/{id}", order["ssd_id"]);
    assert_eq!(carol.get(&delivery).await.status, 200);
    let shelf = format!("/api/devices/{}/shelf/{LENTILS}", order["ssd_id"]);
    assert_eq!(carol.put(&shelf, &json!({"reorder_point": 5})).await.status, 200);
    let history = carol.get(&format!("/api/devices/{}/history", order["ssd_id"])).await;
    assert_eq!(history.status, 200, "{history:?}");
    for path in ["/api/products?q=lentlis", "/api/products?brand=x", "/api/orders/counts", "/api/products/99999999"] {
        let answer = gateway.get(path).await;
        assert!(matches!(answer.status.as_u16(), 200 | 404), "{answer:?}");
    }
    the_state_of_the_system_is_complete(gateway).await;
    let read = carol.post(&format!("/api/letters/{newest}/read"), &json!({})).await;
    assert_eq!(read.status, 204, "{read:?}");
    let changed = carol.put("/api/letters/preferences", &json!({"not_mailed": ["paid"]})).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    eventually("an e-mail was tried and queued again", || async {
        let mut conn = production.connect("operator").await;
        let tried = "SELECT count(*) FROM letters.mails WHERE state = 'queued' AND attempts > 0 AND next_at > now()";
        let tried: i64 = sqlx::query_scalar(tried).fetch_one(&mut conn).await.unwrap();
        (tried > 0).then_some(())
    })
    .await;
}

/// Waits for a state with what only the broker and the orders service know.
async fn the_state_of_the_system_is_complete(gateway: &Http) {
    let mut response = gateway.request(Method::GET, "/api/live").send().await.unwrap();
    let mut text = String::new();
    while !(text.contains("\"dead_letters\":") && text.contains("\"redelivered\":") && text.contains("\"placed\":")) {
        let chunk = timeout(Duration::from_secs(20), response.chunk()).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    assert!(text.contains(Order::COMPLETED), "no events were followed");
}

/// Uses every statement of the billing service, and those of the orders service and the users service that end an order.
async fn a_person_uses_their_money(production: &Production, gateway: &Http) {
    let person = json!({"first_name": "Bob", "last_name": "Example", "email": "bob@example.org",
        "password": "correct horse battery"});
    let household = json!({"user": person, "devices": [{"mac_address": "02:00:00:00:00:03"}]});
    let registered = gateway.post("/api/register", &household).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let bob = gateway.with_token(registered.body["session"]["access_token"].as_str().unwrap());
    let ssd = &registered.body["devices"][0]["ssd_id"];
    let pay = async |kind: &str, cents: i64| {
        let amount = json!({"amount": {"amount": cents, "currency": "EUR"}});
        let paid = bob.post_with_key(&format!("/api/account/{kind}"), kind, &amount).await;
        assert_eq!(paid.status, 201, "{paid:?}");
        paid.body["id"].clone()
    };
    pay("deposits", 10_000).await;
    let withdrawal = pay("withdrawals", 1_000).await;

    let order = async |quantity: i64| {
        let order = json!({"ssd_id": ssd, "barcode": LENTILS, "quantity": quantity});
        let placed = bob.post("/api/orders", &order).await;
        assert_eq!(placed.status, 201, "{placed:?}");
        placed.header("location").to_owned()
    };
    let (fine, dear, unwanted) = (order(1).await, order(1000).await, order(2).await);
    // It may have been shipped before.
    let cancelled = bob.post(&format!("{unwanted}/cancel"), &json!({})).await;
    assert!([200, 409].contains(&cancelled.status.as_u16()), "{cancelled:?}");
    for (order, status) in [(fine, "completed"), (dear, "refused")] {
        eventually(status, || async { (bob.get(&order).await.body["status"] == status).then_some(()) }).await;
    }

    let secret = fs::read_to_string(production.secret_file("client_operator")).unwrap();
    let reversal = json!({"subject": withdrawal, "reason": "the bank sent it back"});
    let request = gateway.request(Method::POST, "/api/account/reversals").basic_auth("operator", Some(secret.trim()));
    let reversed = gateway.send(request.json(&reversal)).await;
    assert_eq!(reversed.status, 200, "{reversed:?}");
    let transfers = bob.get("/api/account/transfers").await.body;
    let kinds: Vec<&str> =
        transfers["transfers"].as_array().unwrap().iter().map(|transfer| transfer["kind"].as_str().unwrap()).collect();
    assert!(["deposit", "withdrawal", "charge", "reversal"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
}

/// Sends `orders.random` with reply subjects on which only other users may publish: services respond only to inboxes.
async fn services_respond_only_to_inboxes(production: &Production) {
    let connect = async |user: &'static str| {
        let config = bus::Config {
            nats_password_file: Some(production.secret_file(user).into()),
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
    for &(user, statement) in forbidden::FORBIDDEN {
        production.assert_refused(user, statement).await;
    }
    // Security events can only be added.
    for user in ["etl", "auth", "users", "orders", "billing", "notifications", "operator"] {
        for statement in [
            "UPDATE auth.security_events SET subject = ''",
            "DELETE FROM auth.security_events",
            "TRUNCATE auth.security_events",
        ] {
            production.assert_refused(user, statement).await;
        }
    }
    // A service does not see the outbox messages of another service.
    sqlx::query("INSERT INTO outbox.messages (source, subject, event_id, body, occurred_at) VALUES ('users', 'stock.low', 'x', '{}', now()), ('auth', 'auth.revoked', 'x', '{}', now()), ('other', 'other', 'x', '{}', now())")
        .execute(&production.database.pool)
        .await
        .unwrap();
    let count = "SELECT count(*) FROM outbox.messages";
    for (user, expected) in [("auth", 1), ("users", 1), ("operator", 3)] {
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
    for name in USERS.iter().chain(&SECRETS) {
        assert!(text.contains(&format!("✗ {name}")), "{text}");
    }

    let own = TempDir::new().unwrap();
    make_secrets(own.path()).await;
    for name in USERS.iter().chain(&SECRETS) {
        let mode = fs::metadata(own.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    for client in ["generator", "operator"] {
        let secret = fs::read_to_string(own.path().join(format!("client_{client}"))).unwrap();
        let parts: Vec<&str> = secret.splitn(3, '_').collect();
        assert!(matches!(parts[..], ["offs", id, random] if id.len() == 32 && random.len() == 43), "{client}");
    }
    let output = off(&["secrets", own.path().to_str().unwrap()]).output().await.unwrap();
    assert!(output.status.success(), "{}", stdout(&output));
    fs::copy(own.path().join("users"), own.path().join("copy")).unwrap();
    let output = off(&["secrets", own.path().to_str().unwrap()]).output().await.unwrap();
    assert!(!output.status.success() && stdout(&output).contains("the same password"), "{}", stdout(&output));
}
