//! Explains for people why a database cannot be used, and what to do about it.

use super::CONNECT_TIMEOUT;
use sqlx::{Connection, PgConnection, PgPool};
use std::io::ErrorKind;
use tokio::time::timeout;

/// Connects once, without the pool: a pool retries until its timeout and does not return the cause.
///
/// # Errors
/// The cause and what to do about it, for people.
pub async fn probe(pool: &PgPool) -> Result<(), String> {
    let options = pool.connect_options();
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let connected = timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&options)).await;
    match connected {
        Ok(Ok(conn)) => {
            let _ = conn.close().await;
            Ok(())
        }
        Ok(Err(sqlx::Error::Io(error))) if error.kind() == ErrorKind::ConnectionRefused => {
            Err(format!("nothing listens on {place}: is PostgreSQL running there, and is DATABASE_URL correct?"))
        }
        Ok(Err(error)) => Err(format!("{place}: {}", describe(&error))),
        Err(_) => Err(format!("{place} did not answer in {} s: is DATABASE_URL correct?", CONNECT_TIMEOUT.as_secs())),
    }
}

/// Describes `error` for people.
pub fn describe(error: &sqlx::Error) -> String {
    let error = match error {
        sqlx::Error::Database(error) => error,
        sqlx::Error::PoolTimedOut => return "PostgreSQL did not answer in time".to_owned(),
        sqlx::Error::Io(error) => return format!("PostgreSQL does not answer: {error}"),
        other => return other.to_string(),
    };
    match error.code().unwrap_or_default().as_ref() {
        "3D000" => format!("{error}: is the database name in DATABASE_URL correct?"),
        "28000" | "28P01" => format!("{error}: are user and password in DATABASE_URL correct?"),
        "53100" => format!("the disk of PostgreSQL is full: {error}"),
        "53300" => format!("PostgreSQL has reached its connection limit: {error}"),
        "57P01" | "57P02" | "57P03" => format!("PostgreSQL is shutting down or starting: {error}"),
        _ => error.to_string(),
    }
}
