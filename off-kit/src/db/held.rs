//! A connection that is kept from one piece of work to the next.

use super::{ASK_AFTER, RETURN_WITHIN};
use sqlx::{Connection, PgConnection, PgPool};
use std::time::Instant;
use tokio::time::timeout;

/// A connection for a loop that runs the same few statements again and again. To give it back to its pool and take the next costs
/// two round trips. It plans each statement once: Postgres would plan one with small arrays anew each time, which takes longer than
/// to store an order, because it takes the arrays of a plan for all for larger.
#[derive(Debug)]
pub struct HeldConnection {
    pool: PgPool,
    held: Option<PgConnection>,
    used_at: Instant,
}

impl HeldConnection {
    /// One more connection than `pool` has.
    pub fn of(pool: PgPool) -> Self {
        Self { pool, held: None, used_at: Instant::now() }
    }

    /// The connection. One that lay idle for a while is asked first whether it still lives.
    pub async fn get(&mut self) -> sqlx::Result<&mut PgConnection> {
        if self.used_at.elapsed() > ASK_AFTER
            && let Some(held) = &mut self.held
            && !matches!(timeout(RETURN_WITHIN, held.ping()).await, Ok(Ok(())))
        {
            self.held = None;
        }
        self.used_at = Instant::now();
        match &mut self.held {
            Some(held) => Ok(held),
            none => {
                let mut conn = self.pool.acquire().await?.detach();
                sqlx::raw_sql("SET plan_cache_mode = force_generic_plan").execute(&mut conn).await?;
                Ok(none.insert(conn))
            }
        }
    }

    /// Gives up a connection on which something failed or took too long.
    pub fn give_up(&mut self) {
        self.held = None;
    }
}
