//! A database role for each program that needs one, with its own password and no more rights than it uses.

use anyhow::Context;
use off_kit::secret;
use sqlx::{AssertSqlSafe, Connection, PgPool};
use std::path::Path;

/// Whom there are roles for, each named by a file with its password; the role is that name after `off_`.
const ROLES: [&str; 4] = ["etl", "users", "orders", "operator"];

/// What they may do.
const GRANTS: &str = include_str!("grants.sql");

/// Creates the roles with the passwords in `folder`, or gives them those passwords, and sets what they may do.
pub(super) async fn set(pool: &PgPool, folder: &Path) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    let mut tx = conn.begin().await?;
    // Roles belong to the whole server: whoever migrates another database of it waits here.
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtext('off roles'))").execute(&mut *tx).await?;
    for name in ROLES {
        let (role, password) = (format!("off_{name}"), secret::read(&folder.join(name))?);
        let is_there =
            sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS "is_there!""#, role);
        let verb = if is_there.fetch_one(&mut *tx).await? { "ALTER" } else { "CREATE" };
        // Neither takes parameters, so Postgres itself puts the password between quotes.
        let statement = "SELECT format('%s ROLE %I LOGIN PASSWORD %L', $1::text, $2::text, $3::text)";
        let statement: String =
            sqlx::query_scalar(statement).bind(verb).bind(&role).bind(password).fetch_one(&mut *tx).await?;
        let made = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx).await;
        // Not the statement, which holds the password.
        made.with_context(|| format!("role {role} cannot be made: may DATABASE_URL's user make roles?"))?;
    }
    sqlx::raw_sql(GRANTS).execute(&mut *tx).await.context("the roles cannot be given their rights")?;
    tx.commit().await.context("the roles cannot be made")
}
