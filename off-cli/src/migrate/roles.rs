//! Creates a database role for each program that needs one, with its own password and only the permissions it uses.

use anyhow::Context;
use off_kit::secret;
use sqlx::{AssertSqlSafe, Connection, PgPool};
use std::path::Path;

/// The names of the password files; the role is the name with the prefix `off_`.
const ROLES: [&str; 4] = ["etl", "users", "orders", "operator"];

/// The permissions of the roles.
const GRANTS: &str = include_str!("grants.sql");

/// Creates the roles or changes their passwords, with the passwords in `folder`, and grants their permissions.
pub(super) async fn set(pool: &PgPool, folder: &Path) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    let mut tx = conn.begin().await?;
    // Roles are global to the server: this serializes migrations of its other databases.
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtext('off roles'))").execute(&mut *tx).await?;
    for name in ROLES {
        let (role, password) = (format!("off_{name}"), secret::read(&folder.join(name))?);
        let role_exists =
            sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS "is_there!""#, role);
        let verb = if role_exists.fetch_one(&mut *tx).await? { "ALTER" } else { "CREATE" };
        // CREATE and ALTER ROLE take no parameters, so Postgres's format() quotes the password.
        let statement = "SELECT format('%s ROLE %I LOGIN PASSWORD %L', $1::text, $2::text, $3::text)";
        let statement: String =
            sqlx::query_scalar(statement).bind(verb).bind(&role).bind(password).fetch_one(&mut *tx).await?;
        let result = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx).await;
        // The context does not contain the statement, which holds the password.
        result.with_context(|| format!("cannot create role {role}: may DATABASE_URL's user create roles?"))?;
    }
    sqlx::raw_sql(GRANTS).execute(&mut *tx).await.context("cannot grant the permissions of the roles")?;
    tx.commit().await.context("cannot create the roles")
}
