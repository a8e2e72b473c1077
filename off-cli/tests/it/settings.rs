//! Wrong settings are refused before anything starts, in words that help.

use crate::{Home, off, stderr, stdout};
use off_testkit::{Database, TestNats};

#[tokio::test]
async fn a_wrong_setting_is_named_with_what_was_expected() {
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
async fn a_wrong_setting_of_a_service_stops_off_up_in_order() {
    let home = Home::new();
    let output = home.command(&["up"]).env("SUPPLIER_DELAY_MIN", "5m").output().await.unwrap();
    assert!(!output.status.success());
    let text = stderr(&output);
    assert!(text.contains("SUPPLIER_DELAY_MIN") && text.contains("longer than the longest"), "{text}");
}

#[tokio::test]
async fn servers_that_are_not_there_are_named_without_their_passwords() {
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
async fn your_own_servers_are_examined_migrated_and_used() {
    let (database, nats) = (Database::empty().await, TestNats::without_streams().await);
    let home = Home::new();
    let run = async |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("DATABASE_URL", &database.url).env("NATS_URL", &nats.url);
        let output = command.output().await.unwrap();
        (output.status.success(), stdout(&output) + &stderr(&output))
    };
    let (well, said) = run(&["doctor"]).await;
    assert!(!well && said.contains("never migrated") && said.contains("run `off migrate`"), "{said}");
    let (done, said) = run(&["migrate"]).await;
    assert!(done && said.contains("up to date"), "{said}");
    let (well, said) = run(&["doctor"]).await;
    assert!(well && said.contains("all is well"), "{said}");

    let file = home.path().join("one.jsonl");
    std::fs::create_dir_all(home.path()).unwrap();
    let sample = include_str!("../../../off-etl/sample/products.jsonl");
    std::fs::write(&file, sample.lines().next().unwrap()).unwrap();
    let (done, said) =
        run(&["up", "--for", "2s", "--households", "2", "--seed", "5", "--catalogue", file.to_str().unwrap()]).await;
    assert!(
        done && said.contains("using the PostgreSQL that DATABASE_URL names, postgres://")
            && said.contains("using the NATS that NATS_URL names, nats://")
            && said.contains("1 record read: 1 new"),
        "{said}"
    );
    let emails: Vec<String> =
        sqlx::query_scalar("SELECT email FROM users.users").fetch_all(&database.pool).await.unwrap();
    assert!(emails.len() >= 2 && emails.iter().all(|email| email.contains(".5.")), "{emails:?}");
    assert!(!home.path().join("postgres").exists() && !home.path().join("nats").exists());
    let (passed, said) = run(&["audit"]).await;
    assert!(passed, "{said}");
}

#[tokio::test]
async fn a_database_that_holds_something_else_is_migrated_only_when_that_is_meant() {
    let (database, nats) = (Database::empty().await, TestNats::without_streams().await);
    sqlx::query("CREATE TABLE invoices (number bigint)").execute(&database.pool).await.unwrap();
    let home = Home::new();
    let run = async |arguments: &[&str]| {
        let mut command = home.command(arguments);
        let output = command.env("DATABASE_URL", &database.url).env("NATS_URL", &nats.url).output().await.unwrap();
        (output.status.success(), stdout(&output) + &stderr(&output))
    };
    for command in [&["migrate"][..], &["up", "--for", "1s"]] {
        let (done, said) = run(command).await;
        assert!(!done && said.contains("holds tables") && said.contains("--yes"), "{said}");
    }
    let schemas: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname = 'orders'")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(schemas, 0);
    let (done, said) = run(&["migrate", "--yes"]).await;
    assert!(done, "{said}");
    // From now on it is off's, too.
    let (done, said) = run(&["migrate"]).await;
    assert!(done, "{said}");
}
