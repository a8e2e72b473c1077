//! `off user` makes people operators, and ordinary people again.

use super::system::{Setup, System};
use crate::{off, stderr, stdout};
use nix::pty::openpty;
use off_kit::Clock;
use off_testkit::{Http, eventually_within};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::Write,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::process::Command;

/// Enough for the relay, which looks for messages of others every second.
const SOON: Duration = Duration::from_secs(5);

/// `off user` with these arguments, with the servers of `system`.
fn user(system: &System, arguments: &[&str]) -> Command {
    let mut command = off(&[&["user"], arguments].concat());
    command.env("DATABASE_URL", &system.world.database.url).env("NATS_URL", &system.world.nats.url);
    command.stdin(Stdio::null());
    command
}

async fn run(system: &System, arguments: &[&str]) -> Output {
    user(system, arguments).output().await.unwrap()
}

async fn sign_in(system: &System) -> Value {
    let login = json!({"email": "ada@example.org", "password": "correct horse battery"});
    system.anonymous().post("/api/login", &login).await.body
}

fn with_token(system: &System, tokens: &Value) -> Http {
    system.anonymous().with_token(tokens["access_token"].as_str().unwrap())
}

async fn status(http: &Http, path: &str) -> u16 {
    http.get(path).await.status.as_u16()
}

/// Fails unless the tokens are refused soon.
async fn assert_ended(system: &System, tokens: &Value) {
    eventually_within(SOON, "the access token is refused", || async {
        (status(&with_token(system, tokens), "/api/orders").await == 401).then_some(())
    })
    .await;
    let refreshed = system.anonymous().post("/api/refresh", &json!({"refresh_token": tokens["refresh_token"]})).await;
    assert_eq!(refreshed.status, 401, "{refreshed:?}");
}

#[tokio::test]
async fn an_address_that_is_registered_becomes_an_operators_only_on_purpose() {
    let system = System::start_with(Setup { by_url: true, clock: Clock::real(1.0) }).await;
    let tokens = sign_in(&system).await;
    let id = format!("user {}", system.ada.user_id);
    let added = run(&system, &["add", "ada@example.org", "--operator"]).await;
    assert_eq!(added.status.code(), Some(1), "{}", stdout(&added));
    for part in ["registered already", id.as_str(), "off user make-operator ada@example.org"] {
        assert!(stderr(&added).contains(part), "{}", stderr(&added));
    }
    let made = run(&system, &["make-operator", "ada@example.org"]).await;
    assert!(made.status.code() == Some(1) && stderr(&made).contains("--yes"), "{}", stdout(&made));
    let unknown = run(&system, &["make-operator", "nobody@example.org", "--yes"]).await;
    assert!(unknown.status.code() == Some(1) && stderr(&unknown).contains("nobody signs in"), "{}", stderr(&unknown));

    let terminal = openpty(None, None).unwrap();
    let asked = user(&system, &["make-operator", "ada@example.org"])
        .stdin(terminal.slave)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = File::from(terminal.master);
    keyboard.write_all(b"no\n").unwrap();
    let asked = asked.wait_with_output().await.unwrap();
    let text = stdout(&asked);
    assert!(asked.status.code() == Some(1) && text.contains(&id) && text.contains("registered at 20"), "{text}");

    assert_eq!(status(&with_token(&system, &tokens), "/api/orders").await, 200);
    assert_eq!(sign_in(&system).await["scope"], "person");
    system.end().await;
}

#[tokio::test]
async fn the_sessions_of_a_person_end_when_they_become_an_operator_and_when_they_stop_being_one() {
    let system = System::start_with(Setup { by_url: true, clock: Clock::real(1.0) }).await;
    let before = sign_in(&system).await;
    let made = run(&system, &["make-operator", "ada@example.org", "--yes"]).await;
    // The one of the registration, too.
    assert!(made.status.success() && stdout(&made).contains("ended sessions: 2"), "{}{}", stdout(&made), stderr(&made));
    assert_ended(&system, &before).await;
    let again = run(&system, &["make-operator", "ada@example.org", "--yes"]).await;
    assert!(again.status.success() && stdout(&again).contains("an operator already"), "{}", stdout(&again));

    let tokens = sign_in(&system).await;
    assert_eq!(tokens["scope"], "person operate");
    assert_eq!(status(&with_token(&system, &tokens), "/api/keys").await, 200);
    let removed = run(&system, &["remove-operator", "ada@example.org"]).await;
    assert!(removed.status.success() && stdout(&removed).contains("ended sessions: 1"), "{}", stderr(&removed));
    assert_ended(&system, &tokens).await;
    let tokens = sign_in(&system).await;
    assert_eq!(tokens["scope"], "person");
    assert_eq!(status(&with_token(&system, &tokens), "/api/keys").await, 403);
    system.end().await;
}

#[tokio::test]
async fn a_session_that_starts_while_the_role_is_removed_ends_too() {
    let system = System::start_with(Setup { by_url: true, clock: Clock::real(1.0) }).await;
    run(&system, &["make-operator", "ada@example.org", "--yes"]).await;
    // Like a sign-in that has confirmed the account and has not committed its session.
    let mut signing_in = system.world.database.pool.begin().await.unwrap();
    for statement in [
        "UPDATE auth.accounts SET changed_at = changed_at WHERE user_id = $1",
        "INSERT INTO auth.sessions (id, user_id, salt, created_at, refreshed_at, idle_until, ends_at)
         VALUES (gen_random_uuid(), $1, '', now(), now(), now() + interval '1 day', now() + interval '1 day')",
    ] {
        sqlx::query(statement).bind(system.ada.user_id).execute(&mut *signing_in).await.unwrap();
    }
    let removing = user(&system, &["remove-operator", "ada@example.org"]).stdout(Stdio::piped()).spawn().unwrap();
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    eventually_within(Duration::from_secs(20), "the command waits for the sign-in", || async {
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&system.world.database.pool).await.unwrap();
        (waiting > 0).then_some(())
    })
    .await;
    signing_in.commit().await.unwrap();
    let removed = removing.wait_with_output().await.unwrap();
    assert!(stdout(&removed).contains("ended sessions: 1"), "{}", stdout(&removed));
    system.end().await;
}
