//! Why a database cannot be used, in words that say what to do.

use super::CONNECT_WITHIN;
use sqlx::{Connection, PgConnection, PgPool};
use std::io::ErrorKind;
use tokio::time::timeout;

/// Connects once, beside the pool: a pool tries again until it is out of time, and does not tell why.
///
/// # Errors
/// What is wrong and what to do about it, for a person.
pub async fn probe(pool: &PgPool) -> Result<(), String> {
    let options = pool.connect_options();
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let connected = timeout(CONNECT_WITHIN, PgConnection::connect_with(&options)).await;
    match connected {
        Ok(Ok(conn)) => {
            // It served its purpose, whatever becomes of it.
            let _ = conn.close().await;
            Ok(())
        }
        Ok(Err(sqlx::Error::Io(error))) if error.kind() == ErrorKind::ConnectionRefused => {
            Err(format!("nothing listens on {place}: is PostgreSQL running there, and is DATABASE_URL right?"))
        }
        Ok(Err(error)) => Err(format!("{place}: {}", describe(&error))),
        Err(_) => Err(format!("{place} did not answer within {} s: is DATABASE_URL right?", CONNECT_WITHIN.as_secs())),
    }
}

/// What `error` is about, for a person.
pub fn describe(error: &sqlx::Error) -> String {
    let error = match error {
        sqlx::Error::Database(error) => error,
        sqlx::Error::PoolTimedOut => return "PostgreSQL did not answer in time".to_owned(),
        sqlx::Error::Io(error) => return format!("PostgreSQL does not answer: {error}"),
        other => return other.to_string(),
    };
    match error.code().unwrap_or_default().as_ref() {
        "3D000" => format!("{error}: is the name of the database in DATABASE_URL right?"),
        "28000" | "28P01" => format!("{error}: are user and password in DATABASE_URL right?"),
        "53100" => format!("PostgreSQL has no room left on its disk: {error}"),
        "53300" => format!("PostgreSQL has no connection left: {error}"),
        "57P01" | "57P02" | "57P03" => format!("PostgreSQL is stopping or starting: {error}"),
        _ => error.to_string(),
    }
}
