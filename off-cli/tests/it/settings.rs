//! Wrong settings are refused before anything starts, in words that help.

use crate::{Home, off, stderr};

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
