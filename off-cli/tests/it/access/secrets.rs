//! What is secret is nowhere in clear: not in logs, metrics, messages, tables, files or command lines.

use crate::Home;
use async_nats::{ConnectOptions, jetstream};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::TryStreamExt;
use off_testkit::{Answer, Http, LENTILS, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tokio::process::Child;

const PASSWORD: &str = "correct horse battery";
const NEW_PASSWORD: &str = "another horse with a staple";
/// Passwords of sign-ins that fail.
const WRONG_PASSWORD: &str = "a wrong horse for this account";
const PASSWORD_AS_EMAIL: &str = "typed-into-the-wrong@field.example";
/// In bodies that are not valid.
const PASSWORD_IN_LIST: &str = "a horse in a list";
const PASSWORD_IN_BROKEN_JSON: &str = "a horse without an end";
const EMAIL: &str = "ada.lovelace@example.org";

/// Texts that must not be found, each with what it is.
type Secrets = BTreeMap<String, String>;

/// `off up`, with its output in files.
struct System {
    home: Home,
    up: Child,
    output: PathBuf,
    gateway: Http,
    secrets: Secrets,
}

/// A client of a service of a running system, or of its health port.
fn service(home: &Home, name: &str, url: &str) -> Http {
    let running = home.running();
    let services = running["services"].as_array().unwrap();
    Http::new(text(&services.iter().find(|service| service["name"] == name).unwrap()[url]).to_owned())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

impl System {
    async fn start() -> Self {
        let home = Home::new();
        let output = home.folder.path().join("printed");
        let mut command = home.command(&["up", "--speed", "600", "--households", "3"]);
        let command = command.env("OFF_LOG", "debug").env("RATE_SIGN_IN", "off").kill_on_drop(true);
        let printed = File::create(&output).unwrap();
        let up = command.stdout(printed.try_clone().unwrap()).stderr(printed).spawn().unwrap();
        eventually("off is up", || async { home.path().join("running.json").exists().then_some(()) }).await;
        eventually("the households are registered", || async {
            fs::read_to_string(&output).unwrap().contains(" orders: ").then_some(())
        })
        .await;
        let gateway = service(&home, "gateway", "url").anonymous();
        Self { home, up, output, gateway, secrets: Secrets::new() }
    }

    /// Adds a secret: its last part, because the others are ids.
    fn add(&mut self, what: &str, secret: &str) {
        let part = secret.rsplit(['.', '_']).next().unwrap();
        // Base64 may contain an underscore itself.
        let part = if part.len() < 40 { &secret[secret.len() - 43..] } else { part };
        self.secrets.insert(part.to_owned(), what.to_owned());
    }

    fn add_tokens(&mut self, answer: &Value) {
        let access = text(&answer["access_token"]);
        self.secrets.insert(access.rsplit('.').next().unwrap().to_owned(), "an access token".to_owned());
        if let Some(refresh) = answer["refresh_token"].as_str() {
            self.secrets.insert(refresh.rsplit('.').next().unwrap().to_owned(), "a refresh token".to_owned());
        }
    }

    async fn post(&self, path: &str, body: Value, status: u16) -> Answer {
        let answer = self.gateway.post(path, &body).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        answer
    }

    /// Ada registers, signs in and out, changes her password, and uses her device. Some of it fails.
    async fn use_everything(&mut self) {
        for (what, password) in [
            ("a password", PASSWORD),
            ("a new password", NEW_PASSWORD),
            ("a wrong password", WRONG_PASSWORD),
            ("a password in place of an address", PASSWORD_AS_EMAIL),
            ("a password in an invalid body", PASSWORD_IN_LIST),
            ("a password in broken JSON", PASSWORD_IN_BROKEN_JSON),
        ] {
            self.secrets.insert(password.to_owned(), what.to_owned());
        }
        let registration = json!({
            "user": {"first_name": "Ada", "last_name": "Lovelace", "email": EMAIL, "password": PASSWORD},
            "devices": [{"mac_address": "02:00:00:00:00:01"}],
        });
        let ada = self.post("/api/register", registration.clone(), 201).await.body;
        self.post("/api/register", registration, 409).await;
        self.add_tokens(&ada["session"]);
        let device = &ada["devices"][0];
        let (ssd_id, key) = (device["ssd_id"].as_i64().unwrap(), text(&device["key"]).to_owned());
        self.add("a device key", &key);
        let login = |password: &str| json!({"email": EMAIL, "password": password});
        self.post("/api/login", login(WRONG_PASSWORD), 401).await;
        self.post("/api/login", json!({"email": PASSWORD_AS_EMAIL, "password": WRONG_PASSWORD}), 401).await;
        self.post("/api/login", json!({"email": EMAIL, "password": [PASSWORD_IN_LIST]}), 422).await;
        let broken = format!("{{\"email\": \"{EMAIL}\", \"password\": \"{PASSWORD_IN_BROKEN_JSON}");
        assert_eq!(self.gateway.post_text("/api/login", broken).await.status, 400);
        let session = self.post("/api/login", login(PASSWORD), 200).await.body;
        self.add_tokens(&session);
        let refreshed = self.post("/api/refresh", json!({"refresh_token": session["refresh_token"]}), 200).await.body;
        self.add_tokens(&refreshed);
        let in_cookie =
            self.post("/api/login", json!({"email": EMAIL, "password": PASSWORD, "cookie": true}), 200).await;
        self.add_tokens(&in_cookie.body);
        let cookie = in_cookie.header("set-cookie").split(';').next().unwrap().to_owned();
        self.secrets.insert(cookie.rsplit('.').next().unwrap().to_owned(), "a refresh token in a cookie".to_owned());
        let request = self.gateway.request(Method::POST, "/api/refresh").header("cookie", &cookie);
        let by_cookie = self.gateway.send(request.header("sec-fetch-site", "same-origin").json(&json!({}))).await;
        assert_eq!(by_cookie.status, 200, "{by_cookie:?}");
        self.add_tokens(&by_cookie.body);

        let person = self.gateway.with_token(text(&refreshed["access_token"]));
        // Nobody should send a token like this, but somebody will.
        let in_query = format!("/api/orders?access_token={}", text(&refreshed["access_token"]));
        let asked = [person.get(&in_query).await, self.gateway.get(&in_query).await];
        // The query is ignored.
        assert_eq!(asked.map(|answer| answer.status.as_u16()), [200, 401]);
        let changed = json!({"old_password": PASSWORD, "new_password": NEW_PASSWORD});
        let answer = person.put("/api/password", &changed).await;
        assert!(answer.status.is_success(), "{answer:?}");
        let second_key = person.post(&format!("/api/devices/{ssd_id}/keys"), &json!({"label": "kitchen"})).await.body;
        self.add("a second device key", text(&second_key["key"]));

        let id = format!("ssd-{ssd_id}");
        self.secrets.insert(BASE64_STANDARD.encode(format!("{id}:{key}")), "a device key in a header".to_owned());
        let order = json!({"ssd_id": ssd_id, "barcode": LENTILS, "quantity": 1});
        let request = self.gateway.request(Method::POST, "/api/orders").basic_auth(&id, Some(&key)).json(&order);
        let placed = self.gateway.send(request).await;
        assert_eq!(placed.status, 201, "{placed:?}");
        let request = self.gateway.request(Method::POST, "/oauth/token").basic_auth(&id, Some(&key));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let issued = self.gateway.send(request.body("grant_type=client_credentials")).await;
        assert_eq!(issued.status, 200, "{issued:?}");
        self.add_tokens(&issued.body);
        self.post("/api/logout", json!({"refresh_token": refreshed["refresh_token"]}), 204).await;

        for client in ["generator", "operator"] {
            let token = crate::stdout(&self.home.run(&["token", "--client", client]).await);
            self.secrets.insert(token.trim().rsplit('.').next().unwrap().to_owned(), format!("a token of {client}"));
            let secret = fs::read_to_string(self.home.path().join(format!("secrets/client_{client}"))).unwrap();
            self.add(&format!("the secret of {client}"), secret.trim());
            let basic = BASE64_STANDARD.encode(format!("{client}:{}", secret.trim()));
            self.secrets.insert(basic, format!("the secret of {client} in a header"));
        }
        let rotated = self.home.run(&["keys", "rotate", "--after", "0s"]).await;
        assert!(rotated.status.success(), "{}", crate::stderr(&rotated));
        let master = fs::read_to_string(self.home.path().join("secrets/auth_secret")).unwrap();
        self.secrets.insert(master.trim().to_owned(), "the master secret".to_owned());
        assert!(self.secrets.keys().all(|secret| secret.len() > 15), "{:?}", self.secrets);
    }

    fn url(&self, server: &str) -> String {
        text(&self.home.running()[server]).to_owned()
    }
}

/// The secrets that are in a text. They are ASCII, so other bytes do not matter.
fn found_in(secrets: &Secrets, place: &str, text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let found = secrets.iter().filter(|(secret, _)| text.contains(secret.as_str()));
    found.map(|(_, what)| format!("{place} has {what}")).collect()
}

/// The hexadecimal digits of a text, as Postgres shows bytes.
fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").unwrap();
        digits
    })
}

fn assert_nothing(found: &[String]) {
    assert!(found.is_empty(), "{found:#?}");
}

/// The rows of all tables as text, each table with its name.
async fn tables(db: &PgPool) -> Vec<(String, String)> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
         WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')",
    )
    .fetch_all(db)
    .await
    .unwrap();
    assert!(names.len() >= 10, "{names:?}");
    let mut tables = Vec::new();
    for name in names {
        // The hexadecimal digits of bytes are read as text, too.
        let query = format!("SELECT coalesce(string_agg(rows::text, ' '), '') FROM {name} AS rows");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(db).await.unwrap();
        tables.push((name, rows));
    }
    tables
}

/// All messages of all streams with their headers, each with its subject.
async fn messages(url: &str) -> Vec<(String, Vec<u8>)> {
    let (credentials, address) = url.trim_start_matches("nats://").split_once('@').unwrap();
    let (user, password) = credentials.split_once(':').unwrap();
    let options = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
    let jetstream = jetstream::new(options.connect(address).await.unwrap());
    let names: Vec<String> = jetstream.stream_names().try_collect().await.unwrap();
    let mut messages = Vec::new();
    for name in names {
        let mut stream = jetstream.get_stream(&name).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        for sequence in state.first_sequence..=state.last_sequence {
            // A message may be deleted.
            if let Ok(message) = stream.get_raw_message(sequence).await {
                let mut bytes = format!("{:?} ", message.headers).into_bytes();
                bytes.extend_from_slice(&message.payload);
                messages.push((message.subject.to_string(), bytes));
            }
        }
    }
    messages
}

/// The command lines and environments of all processes.
fn processes() -> Vec<(String, Vec<u8>)> {
    let mut processes = Vec::new();
    for process in fs::read_dir("/proc").unwrap() {
        for file in ["cmdline", "environ"] {
            let path = process.as_ref().unwrap().path().join(file);
            // Some entries are no processes, and processes end.
            processes.extend(fs::read(&path).ok().map(|bytes| (path.display().to_string(), bytes)));
        }
    }
    processes
}

/// The files beneath a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn secrets_are_nowhere_in_clear() {
    let mut system = System::start().await;
    system.use_everything().await;
    let gateway = system.gateway.clone();
    eventually("households order", || async {
        let token = crate::stdout(&system.home.run(&["token", "--client", "operator"]).await);
        let orders = gateway.with_token(token.trim()).get("/api/orders").await.body;
        (orders["orders"].as_array()?.len() >= 5).then_some(())
    })
    .await;
    let secrets = &system.secrets;
    let db = PgPool::connect(&system.url("database_url")).await.unwrap();

    // The database has addresses of people, but neither passwords nor keys.
    let tables = tables(&db).await;
    let hex: Secrets =
        secrets.iter().map(|(secret, what)| (hex(secret), format!("{what} in hexadecimal digits"))).collect();
    for (name, rows) in &tables {
        assert_nothing(&found_in(secrets, name, rows.as_bytes()));
        assert_nothing(&found_in(&hex, name, rows.as_bytes()));
    }
    assert!(tables.iter().any(|(_, rows)| rows.contains(EMAIL)), "the tables were not read");
    let emails: Vec<String> = sqlx::query_scalar("SELECT email FROM users.users").fetch_all(&db).await.unwrap();
    assert!(emails.len() >= 4, "{emails:?}");
    db.close().await;

    // Elsewhere there are no addresses, and no passwords of the servers.
    let password = |url: String| url.split('@').next().unwrap().rsplit(':').next().unwrap().to_owned();
    let mut private = secrets.clone();
    private.extend(emails.into_iter().map(|email| (email, "an e-mail address".to_owned())));
    let servers: Secrets = ["database_url", "nats_url"]
        .map(|server| (password(system.url(server)), format!("the password in {server}")))
        .into_iter()
        .filter(|(password, _)| password.len() > 15)
        .collect();
    private.extend(servers.clone());

    let messages = messages(&system.url("nats_url")).await;
    assert!(messages.iter().any(|(subject, _)| subject == "auth.revoked"), "the streams were not read");
    for (subject, message) in &messages {
        assert_nothing(&found_in(&private, subject, message));
    }
    for name in ["gateway", "auth", "users", "orders", "notifications", "operator", "generator"] {
        let metrics = service(&system.home, name, "health_url").get("/metrics").await;
        assert!(text(&metrics.body).contains("off_http_request_duration_seconds"), "{metrics:?}");
        assert_nothing(&found_in(&private, name, text(&metrics.body).as_bytes()));
    }
    let processes = processes();
    let home = system.home.path().display().to_string();
    let named = processes.iter().filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains(&home)).count();
    assert!(named >= 3, "off, Postgres and NATS name the folder: {named}");
    for (name, bytes) in &processes {
        assert_nothing(&found_in(&private, name, bytes));
    }

    let pid = nix::unistd::Pid::from_raw(i32::try_from(system.up.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(system.up.wait().await.unwrap().success());
    // All files: the logs of off and of the servers, and the files of the database and of the streams.
    let (home_and_output, folder, mut all) = (system.home.folder.path(), system.home.path(), Vec::new());
    files(home_and_output, &mut all);
    let log = folder.join("off.log");
    for logged in [log.clone(), system.output.clone()] {
        assert!(!fs::read(&logged).unwrap().is_empty() && all.contains(&logged), "{all:?}");
        assert_nothing(&found_in(&private, "the log", &fs::read(&logged).unwrap()));
    }
    assert!(fs::read_to_string(&log).unwrap().contains("\"DEBUG\""), "the log is that of an operator who debugs");
    assert!(all.iter().any(|file| file.ends_with("postgres/PG_VERSION")), "{all:?}");
    assert_eq!(mode(&folder.join("secrets")), 0o700);
    // Under root, Postgres runs as another user, who has to get to its files.
    assert_eq!(mode(&folder), if nix::unistd::Uid::effective().is_root() { 0o711 } else { 0o700 });
    let logs: Vec<_> = all.iter().filter(|file| file.extension().is_some_and(|extension| extension == "log")).collect();
    assert!(logs.len() >= 3, "of off, Postgres and NATS: {logs:?}");
    for log in logs {
        assert_eq!(mode(log), 0o600, "{}", log.display());
    }
    for file in &all {
        let bytes = fs::read(file).unwrap();
        let mut found = found_in(secrets, &file.display().to_string(), &bytes);
        let is_private = file.starts_with(folder.join("secrets"));
        if is_private {
            found.clear();
        }
        assert_nothing(&found);
        if is_private || !found_in(&servers, "", &bytes).is_empty() {
            assert_eq!(mode(file), 0o600, "{}", file.display());
        }
    }
}
