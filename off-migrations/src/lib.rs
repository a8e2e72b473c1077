//! The schema of the database: one ordered history of migrations, in the folder `migrations`. `off migrate` applies it;
//! services only compare its newest version with that of their database.

use anyhow::Context;
use sqlx::{PgPool, migrate::Migrator};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// The version of the newest migration.
pub fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Applies all missing migrations to the database of `pool`.
///
/// # Errors
/// A migration failed; those before it were applied.
pub async fn apply(pool: &PgPool) -> anyhow::Result<()> {
    MIGRATIONS.run(pool).await.context("a migration failed; those before it were applied")
}

/// Whether the database has tables but no migrations of off, so that it belongs to another application.
pub async fn is_of_another(pool: &PgPool) -> anyhow::Result<bool> {
    let is_of_another = sqlx::query_scalar!(
        r#"SELECT to_regclass('_sqlx_migrations') IS NULL AND EXISTS (
               SELECT FROM pg_class JOIN pg_namespace AS schema ON schema.oid = relnamespace
               WHERE relkind IN ('r', 'p', 'v', 'm') AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
                 -- What extensions bring is nobody's.
                 AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
           ) AS "is_of_another!""#
    );
    is_of_another.fetch_one(pool).await.context("cannot list the tables of the database")
}
