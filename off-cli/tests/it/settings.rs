//! Invalid settings are rejected at the start with a helpful message; external servers are used as set.

use crate::{Home, off, stderr, stdout};
use off_testkit::{Database, TestNats};

#[tokio::test]
async fn an_invalid_setting_is_named_with_the_expected_value() {
    for (arguments, expected) in [
        (vec!["up", "--speed", "0"], "expected a number from 0.01 to 86400"),
        (vec!["up", "--speed", "fast"], "--speed"),
        (vec!["up", "--for", "soon"], "--for"),
        (vec!["migrate", "--database-url", "postgres://localhost/off"], "--nats-url"),
        (vec!["watch", "--jason"], "--json"),
    ] {
        let output = off(&arguments).output().await.unwrap();
        assert!(!output.status.success() && stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn an_invalid_service_setting_stops_off_up() {
    let home = Home::new();
    let output = home.command(&["up"]).env("SUPPLIER_DELAY_MIN", "5m").output().await.unwrap();
    assert!(!output.status.success());
    let text = stderr(&output);
    assert!(text.contains("SUPPLIER_DELAY_MIN") && text.contains("the minimum is longer than the maximum"), "{text}");
}

#[tokio::test]
async fn unreachable_servers_are_named_without_their_passwords() {
    let output = off(&["audit"])
        .env("DATABASE_URL", "postgres://off:secret@127.0.0.1:1/off")
        .env("NATS_URL", "nats://127.0.0.1:1")
        .output()
        .await
        .unwrap();
    let text = stderr(&output);
    assert!(!output.status.success() && text.contains("127.0.0.1:1") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn external_servers_are_checked_migrated_and_used() {
    let (database, nats) = (Database::empty().await, TestNats::without_streams().await);
    let home = Home::new();
    let run = async |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("DATABASE_URL", &database.url).env("NATS_URL", &nats.url);
        let output = command.output().await.unwrap();
        (output.status.success(), stdout(&output) + &stderr(&output))
    };
    let (healthy, text) = run(&["doctor"]).await;
    assert!(!healthy && text.contains("never migrated") && text.contains("run `off migrate`"), "{text}");
    let (success, text) = run(&["migrate"]).await;
    assert!(success && text.contains("up to date"), "{text}");
    let (healthy, text) = run(&["doctor"]).await;
    assert!(healthy && text.contains("all is well"), "{text}");

    let file = home.path().join("one.jsonl");
    std::fs::create_dir_all(home.path()).unwrap();
    let sample = include_str!("../../../off-etl/sample/products.jsonl");
    std::fs::write(&file, sample.lines().next().unwrap()).unwrap();
    let (success, text) =
        run(&["up", "--for", "2s", "--households", "2", "--seed", "5", "--catalog", file.to_str().unwrap()]).await;
    assert!(
        success
            && text.contains("using the PostgreSQL that DATABASE_URL names, postgres://")
            && text.contains("using the NATS that NATS_URL names, nats://")
            && text.contains("1 record read: 1 new"),
        "{text}"
    );
    let emails: Vec<String> =
        sqlx::query_scalar("SELECT email FROM users.users").fetch_all(&database.pool).await.unwrap();
    assert!(emails.len() >= 2 && emails.iter().all(|email| email.contains(".5.")), "{emails:?}");
    assert!(!home.path().join("postgres").exists() && !home.path().join("nats").exists());
    let (passed, text) = run(&["audit"]).await;
    assert!(passed, "{text}");
}

#[tokio::test]
async fn a_database_with_other_tables_is_migrated_only_with_yes() {
    let (database, nats) = (Database::empty().await, TestNats::without_streams().await);
    sqlx::query("CREATE TABLE invoices (number bigint)").execute(&database.pool).await.unwrap();
    let home = Home::new();
    let run = async |arguments: &[&str]| {
        let mut command = home.command(arguments);
        let output = command.env("DATABASE_URL", &database.url).env("NATS_URL", &nats.url).output().await.unwrap();
        (output.status.success(), stdout(&output) + &stderr(&output))
    };
    for command in [&["migrate"][..], &["up", "--for", "1s"]] {
        let (success, text) = run(command).await;
        assert!(!success && text.contains("holds tables") && text.contains("--yes"), "{text}");
    }
    let schemas: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname = 'orders'")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(schemas, 0);
    let (success, text) = run(&["migrate", "--yes"]).await;
    assert!(success, "{text}");
    // From now on the database is a database of off, so --yes is not needed.
    let (success, text) = run(&["migrate"]).await;
    assert!(success, "{text}");
}
