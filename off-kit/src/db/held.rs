//! A connection that is kept from one piece of work to the next.

use super::ASK_AFTER;
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use std::time::Instant;

/// A connection for a loop with much to do: to give it back and take the next costs two round trips.
#[derive(Debug)]
pub struct HeldConnection {
    pool: PgPool,
    held: Option<PoolConnection<Postgres>>,
    used_at: Instant,
}

impl HeldConnection {
    pub fn of(pool: PgPool) -> Self {
        Self { pool, held: None, used_at: Instant::now() }
    }

    /// The connection. One that lay idle for a while is given back: its pool asks the next one first whether it still lives.
    pub async fn get(&mut self) -> sqlx::Result<&mut PgConnection> {
        if self.used_at.elapsed() > ASK_AFTER {
            self.held = None;
        }
        self.used_at = Instant::now();
        match &mut self.held {
            Some(held) => Ok(held),
            none => Ok(none.insert(self.pool.acquire().await?)),
        }
    }

    /// Gives up a connection on which something failed or took too long.
    pub fn give_up(&mut self) {
        self.held = None;
    }
}
