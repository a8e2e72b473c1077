//! Black-box tests of the service over HTTP and NATS.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failure in a helper must fail the calling test")]

mod attempts;
mod clients;
mod device_keys;
mod housekeeping;
mod oauth;
mod openapi;
mod passwords;
mod program;
mod refresh;
mod secrets;
mod session_keys;
mod sessions;
mod sign_in;
mod signing_keys;

use axum::http::Method;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use off_auth_service::{AuthService, Config};
use off_events::{Revoked, streams};
use off_kit::{Clock, auth::OpaqueKey, clock::ClockMover, password::Hasher};
use off_testkit::{Answer, Http, Leftover, Running, World, eventually};
use serde_json::{Value, json};
use std::io::Write;
use tempfile::NamedTempFile;
use uuid::Uuid;

/// The password of all people in these tests.
const PASSWORD: &str = "correct horse battery";

/// The e-mail address of the person whom most tests have.
const ADA: &str = "ada@example.org";

/// The running service with a private database and NATS server.
struct Auth {
    world: World,
    service: Running,
    /// Moves the clock of the service.
    clock: ClockMover,
    secret: NamedTempFile,
}

/// A file with a master secret.
fn secret_file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

impl Auth {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts the service with changed settings.
    async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let (world, secret) = (World::new().await, secret_file("the master secret of these tests, long enough"));
        let (clock, mover) = Clock::movable(1.0);
        let mut config = Config::new(world.db_config(), world.bus_config(), secret.path().to_owned());
        change(&mut config);
        let service = Running::start_ready::<AuthService>(config, clock.with_short_timeouts(10)).await;
        Self { world, service, clock: mover, secret }
    }

    /// Another replica, with this master secret.
    async fn start_replica(&self, secret: &NamedTempFile) -> Running {
        self.start_replica_with(secret, |_| {}).await
    }

    /// [`Self::start_replica`] with changed settings.
    async fn start_replica_with(&self, secret: &NamedTempFile, change: impl FnOnce(&mut Config)) -> Running {
        let mut config = Config::new(self.world.db_config(), self.world.bus_config(), secret.path().to_owned());
        change(&mut config);
        Running::start_ready::<AuthService>(config, Clock::real(1.0).with_short_timeouts(10)).await
    }

    /// A client without a token.
    fn http(&self) -> Http {
        self.service.http.anonymous()
    }

    /// A client with this access token.
    fn with_token(&self, token: &str) -> Http {
        self.service.http.with_token(token)
    }

    /// Adds a person, as the users service does; returns their id.
    async fn add_person(&self, email: &str) -> i64 {
        let hash = Hasher::new().hash(PASSWORD.to_owned()).await.unwrap();
        sqlx::query_scalar(
            "WITH person AS (
                 INSERT INTO users.users (first_name, last_name, email, registered_at)
                 VALUES ('Ada', 'Example', $1, now()) RETURNING id
             )
             INSERT INTO auth.accounts (user_id, email, password_hash, changed_at)
             SELECT id, $1, $2, now() FROM person RETURNING user_id",
        )
        .bind(email)
        .bind(hash)
        .fetch_one(&self.world.database.pool)
        .await
        .unwrap()
    }

    /// Adds a device of a person; returns its id.
    async fn add_device(&self, user_id: i64) -> i64 {
        sqlx::query_scalar(
            "INSERT INTO users.devices (user_id, mac_address)
             SELECT $1, '02:00:00:00:00:' || lpad(to_hex(count(*)), 2, '0') FROM users.devices RETURNING id",
        )
        .bind(user_id)
        .fetch_one(&self.world.database.pool)
        .await
        .unwrap()
    }

    /// Adds a client with these scopes, as `off migrate` does; returns its secret.
    async fn add_client(&self, id: &str, scopes: &[&str]) -> String {
        let secret = OpaqueKey::generate(OpaqueKey::CLIENT, Uuid::now_v7()).unwrap();
        sqlx::query(
            "WITH client AS (INSERT INTO auth.clients (id, scopes, created_at) VALUES ($1, $2, now()) RETURNING id)
             INSERT INTO auth.client_secrets (id, client_id, sha256, created_at) SELECT $3, id, $4, now() FROM client",
        )
        .bind(id)
        .bind(scopes)
        .bind(secret.id())
        .bind(&secret.sha256()[..])
        .execute(&self.world.database.pool)
        .await
        .unwrap();
        secret.text().to_owned()
    }

    /// A token of a new operator's client.
    async fn operator(&self) -> String {
        let secret = self.add_client("operator", &["operate"]).await;
        let answer = self.client_token("operator", &secret, "").await;
        text(&answer.body["access_token"])
    }

    async fn log_in(&self, email: &str, password: &str) -> Answer {
        self.http().post("/api/login", &json!({"email": email, "password": password})).await
    }

    /// [`Self::log_in`] from this address.
    async fn log_in_from(&self, address: &str, email: &str, password: &str) -> Answer {
        let request = self.http().request(Method::POST, "/api/login").header("x-forwarded-for", address);
        self.http().send(request.json(&json!({"email": email, "password": password}))).await
    }

    /// Adds Ada and signs her in; returns her id and her tokens.
    async fn ada(&self) -> (i64, Value) {
        let id = self.add_person(ADA).await;
        (id, self.log_in(ADA, PASSWORD).await.body)
    }

    async fn refresh(&self, tokens: &Value) -> Answer {
        self.http().post("/api/refresh", &json!({"refresh_token": tokens["refresh_token"]})).await
    }

    async fn log_out(&self, tokens: &Value) -> Answer {
        self.http().post("/api/logout", &json!({"refresh_token": tokens["refresh_token"]})).await
    }

    /// Asks for a token of a client with more parameters.
    async fn client_token(&self, id: &str, secret: &str, more: &str) -> Answer {
        let body = format!("grant_type=client_credentials{more}");
        self.post_form("/oauth/token", Some((id, secret)), &body).await
    }

    /// Posts a form-encoded body, with the credentials of a client if there are some.
    async fn post_form(&self, path: &str, credentials: Option<(&str, &str)>, body: &str) -> Answer {
        let request = self.http().request(Method::POST, path);
        let request = match credentials {
            Some((id, secret)) => request.basic_auth(id, Some(secret)),
            None => request,
        };
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body.to_owned());
        self.http().send(request).await
    }

    /// The status of a request that needs a token of a person.
    async fn status_with(&self, access_token: &Value) -> u16 {
        self.with_token(&text(access_token)).get("/api/sessions").await.status.as_u16()
    }

    /// Waits until the service refuses an access token, which it learns over the bus.
    async fn wait_until_refused(&self, access_token: &Value) {
        eventually("the access token is refused", || async {
            (self.status_with(access_token).await == 401).then_some(())
        })
        .await;
    }

    /// Waits until exactly these sessions or keys were announced as revoked.
    async fn assert_revoked(&self, sids: &[Uuid]) {
        let messages = self.world.nats.wait_for_messages(streams::AUTH.name, Revoked::SUBJECT, sids.len()).await;
        let mut revoked: Vec<Uuid> =
            messages.iter().map(|message| serde_json::from_slice::<Revoked>(&message.payload).unwrap().sid).collect();
        let mut sids = sids.to_vec();
        revoked.sort_unstable();
        sids.sort_unstable();
        assert_eq!(revoked, sids);
    }

    /// The kinds and subjects in the security log, in order, without the one about the first signing key.
    async fn security_log(&self) -> Vec<(String, String)> {
        sqlx::query_as("SELECT kind, subject FROM auth.security_events WHERE kind <> 'signing_key_created' ORDER BY id")
            .fetch_all(&self.world.database.pool)
            .await
            .unwrap()
    }

    async fn end(self) {
        self.end_leaving(&[]).await;
    }

    async fn end_leaving(self, leftovers: &[Leftover]) {
        self.world.end_after(vec![self.service], leftovers).await;
    }
}

/// The text in a JSON value.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The header and the claims of an access token, unverified.
fn read_token(token: &Value) -> (Value, Value) {
    let token = text(token);
    let mut parts = token.split('.').map(|part| {
        let json = BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        serde_json::from_slice(&json).unwrap_or_default()
    });
    (parts.next().unwrap(), parts.next().unwrap())
}

/// The session or key that an access token names.
fn sid_of(token: &Value) -> Uuid {
    text(&read_token(token).1["sid"]).parse().unwrap()
}
