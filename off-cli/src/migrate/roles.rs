//! Creates a database role for each program that needs one, with its own password and only the permissions it uses.

use super::store;
use anyhow::Context;
use off_kit::secret;
use sqlx::{Connection, PgPool};
use std::path::Path;

/// The names of the password files; the role is the name with the prefix `off_`.
const ROLES: [&str; 7] = ["etl", "auth", "users", "orders", "billing", "notifications", "operator"];

/// Creates the roles or changes their passwords, with the passwords in `folder`, and grants their permissions.
pub(super) async fn set(pool: &PgPool, folder: &Path) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    let mut tx = conn.begin().await?;
    store::lock_roles(&mut tx).await?;
    for name in ROLES {
        let (role, password) = (format!("off_{name}"), secret::read(&folder.join(name))?);
        let result = store::set_role(&mut tx, &role, &password).await;
        // The context does not contain the statement, which holds the password.
        result.with_context(|| format!("cannot create role {role}: may DATABASE_URL's user create roles?"))?;
    }
    store::grant_permissions(&mut tx).await.context("cannot grant the permissions of the roles")?;
    tx.commit().await.context("cannot create the roles")
}
