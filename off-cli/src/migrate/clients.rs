//! Stores the clients of the API, with the secrets in a folder.

use super::store;
use crate::home::client_file;
use anyhow::Context;
use off_kit::{
    Clock,
    auth::{OpaqueKey, Scope},
    secret,
};
use sqlx::PgPool;
use std::path::Path;

/// The clients, and what they may do.
const CLIENTS: [(&str, Scope); 2] = [("generator", Scope::Simulate), ("operator", Scope::Operate)];

/// Creates or updates the clients whose secrets are in `folder`, in files like `client_generator`. The previous secret
/// of a client stays valid until the next change, so that its program can be restarted later.
pub(crate) async fn set(pool: &PgPool, folder: &Path, clock: Clock) -> anyhow::Result<()> {
    let mut tx = pool.begin().await?;
    for (client, scope) in CLIENTS {
        let file = folder.join(client_file(client));
        let text = secret::read(&file)?;
        let (id, digest) = OpaqueKey::parse(OpaqueKey::CLIENT, &text)
            .with_context(|| format!("{} is not a client secret: deploy/make-secrets makes one", file.display()))?;
        store::set_client(&mut tx, client, &[scope.as_str()], clock.now()).await?;
        store::set_client_secret(&mut tx, client, id, &digest, clock.now()).await?;
    }
    tx.commit().await.context("cannot store the clients")
}
