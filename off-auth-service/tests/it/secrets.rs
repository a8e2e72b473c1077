//! Nothing secret is stored or published in clear.

use crate::{ADA, Auth, PASSWORD, text};
use serde_json::json;
use std::fmt::Write;

#[tokio::test]
async fn the_database_and_the_bus_hold_no_secret_in_clear() {
    let auth = Auth::start().await;
    let (user_id, first) = auth.ada().await;
    let ssd_id = auth.add_device(user_id).await;
    let second = auth.refresh(&first).await.body;
    let owner = auth.with_token(&text(&second["access_token"]));
    let key = text(&owner.post(&format!("/api/devices/{ssd_id}/keys"), &json!({})).await.body["key"]);
    let device = text(&auth.client_token(&format!("ssd-{ssd_id}"), &key, "").await.body["access_token"]);
    let client_secret = auth.add_client("operator", &["operate"]).await;
    let client = text(&auth.client_token("operator", &client_secret, "").await.body["access_token"]);
    assert_eq!(auth.log_in(ADA, "a wrong donkey").await.status, 401);
    assert_eq!(auth.log_in("nobody@example.org", "a wrong donkey").await.status, 401);
    auth.log_out(&second).await;
    auth.assert_revoked(&[crate::sid_of(&second["access_token"])]).await;

    let master = std::fs::read_to_string(auth.secret.path()).unwrap();
    let mut secrets = vec![PASSWORD.to_owned(), "a wrong donkey".to_owned(), "nobody@".to_owned(), master];
    for tokens in [&first, &second] {
        secrets.extend([text(&tokens["access_token"]), text(&tokens["refresh_token"])]);
        // The part that cannot be computed from the row.
        secrets.push(text(&tokens["refresh_token"]).rsplit('.').next().unwrap().to_owned());
    }
    for secret in [key, client_secret] {
        // The random part may contain underscores.
        secrets.push(secret.splitn(3, '_').nth(2).unwrap().to_owned());
        secrets.push(secret);
    }
    secrets.extend([device, client]);

    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('auth', 'users', 'outbox')",
    )
    .fetch_all(&auth.world.database.pool)
    .await
    .unwrap();
    assert!(tables.len() > 8, "{tables:?}");
    let mut stored = String::new();
    for table in tables {
        let dump = format!("SELECT coalesce(string_agg(row::text, E'\\n'), '') FROM {table} AS row");
        let rows: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(dump)).fetch_one(&auth.world.database.pool).await.unwrap();
        writeln!(stored, "{table}: {rows}").unwrap();
    }
    for message in auth.world.nats.messages(off_events::streams::AUTH.name, ">").await {
        writeln!(stored, "{}", String::from_utf8_lossy(&message.payload)).unwrap();
    }
    // The rows are there, so that the search means something.
    assert!(stored.contains("ada@example.org") && stored.contains("argon2id"), "{stored}");
    for secret in secrets {
        let hex: String = secret.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert!(!stored.contains(&secret) && !stored.contains(&hex), "{secret} is in {stored}");
    }
    // A signing key that is stored unsealed begins like any PKCS #8 key.
    assert!(!stored.contains("308187020100"), "{stored}");
    auth.end().await;
}
