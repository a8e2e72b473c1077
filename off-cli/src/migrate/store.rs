//! The statements that create roles.

use sqlx::{AssertSqlSafe, PgConnection};

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
