//! Secrets of clients.

use off_kit::auth::Scopes;
use sqlx::PgPool;
use uuid::Uuid;

/// How many secrets of a client are considered. It has one or, while it is replaced, two.
const MAX_SECRETS: i64 = 10;

/// A secret that was not revoked, of a client that is not disabled.
#[derive(Debug)]
pub(crate) struct ClientSecret {
    pub(crate) id: Uuid,
    pub(crate) sha256: Vec<u8>,
    /// What the client may ask for.
    pub(crate) scopes: Scopes,
}

/// The secrets of a client, the newest first; none if there is no such client.
pub(crate) async fn list_client_secrets(db: &PgPool, client_id: &str) -> sqlx::Result<Vec<ClientSecret>> {
    let rows = sqlx::query!(
        "SELECT client_secrets.id, sha256, scopes
         FROM auth.clients JOIN auth.client_secrets ON client_secrets.client_id = clients.id
         WHERE clients.id = $1 AND disabled_at IS NULL AND revoked_at IS NULL
         ORDER BY client_secrets.created_at DESC LIMIT $2",
        client_id,
        MAX_SECRETS,
    )
    .fetch_all(db)
    .await?;
    let secrets = rows.into_iter().map(|row| ClientSecret {
        id: row.id,
        sha256: row.sha256,
        scopes: Scopes::of_known(&row.scopes.join(" ")),
    });
    Ok(secrets.collect())
}
