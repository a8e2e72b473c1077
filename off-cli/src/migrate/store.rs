//! The statements that create roles and clients.

use chrono::{DateTime, Utc};
use off_events::{Revoked, participants};
use off_kit::auth::{LEEWAY, TOKEN_LIFETIME};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

/// The permissions of the roles.
const GRANTS: &str = include_str!("grants.sql");

/// Waits for other migrations that create roles, and blocks them until the end of the transaction. Roles are global to
/// the server, so these may be migrations of its other databases.
pub(super) async fn lock_roles(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtext('off roles'))").execute(tx).await?;
    Ok(())
}

/// Creates a role that may log in with this password; if it exists, sets its password.
pub(super) async fn set_role(tx: &mut PgConnection, role: &str, password: &str) -> sqlx::Result<()> {
    let role_exists =
        sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS "is_there!""#, role);
    let verb = if role_exists.fetch_one(&mut *tx).await? { "ALTER" } else { "CREATE" };
    // CREATE and ALTER ROLE take no parameters, so Postgres's format() quotes the password.
    let statement = "SELECT format('%s ROLE %I LOGIN PASSWORD %L', $1::text, $2::text, $3::text)";
    let statement: String =
        sqlx::query_scalar(statement).bind(verb).bind(role).bind(password).fetch_one(&mut *tx).await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(tx).await?;
    Ok(())
}

/// Grants each role its permissions.
pub(super) async fn grant_permissions(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(GRANTS).execute(tx).await?;
    Ok(())
}

/// Creates a client of the API, or sets its scopes.
pub(super) async fn set_client(
    tx: &mut PgConnection,
    client: &str,
    scopes: &[&str],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    sqlx::query!(
        "INSERT INTO auth.clients (id, scopes, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET scopes = excluded.scopes",
        client,
        &scopes,
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds a secret of a client, unless it is known. Of the other secrets only the newest stays valid.
pub(super) async fn set_client_secret(
    tx: &mut PgConnection,
    client: &str,
    id: Uuid,
    sha256: &[u8],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let added = sqlx::query!(
        "INSERT INTO auth.client_secrets (id, client_id, sha256, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO NOTHING",
        id,
        client,
        sha256,
        now,
    );
    if added.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(());
    }
    // The auth service publishes the revocations. They matter as long as the last token of the secret is valid.
    sqlx::query!(
        r#"WITH revoked AS (
               UPDATE auth.client_secrets SET revoked_at = $3
               WHERE client_id = $1 AND revoked_at IS NULL AND id <> $2
                 AND id NOT IN (SELECT id FROM auth.client_secrets
                                WHERE client_id = $1 AND id <> $2 AND revoked_at IS NULL
                                ORDER BY created_at DESC LIMIT 1)
               RETURNING id
           )
           INSERT INTO outbox.messages (source, subject, event_id, body, occurred_at)
           SELECT $4, $5, 'revoked:' || id,
                  json_build_object('sid', id, 'until', to_char($6::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))::text,
                  $3
           FROM revoked"#,
        client,
        id,
        now,
        participants::AUTH.name,
        Revoked::SUBJECT,
        now + TOKEN_LIFETIME + LEEWAY,
    )
    .execute(tx)
    .await?;
    Ok(())
}
