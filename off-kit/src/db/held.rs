//! A connection that is kept between units of work.

use super::{PING_AFTER, RETURN_TIMEOUT};
use crate::{Clock, Kit};
use sqlx::{Connection, PgConnection, PgPool};
use std::time::Instant;
use tokio::time::timeout;

/// A connection for a loop that repeats the same few statements. Returning it to its pool and acquiring the next one
/// would cost two round trips. It uses generic plans: Postgres would plan a statement with small arrays each time,
/// because it assumes larger arrays in the generic plan, and planning takes longer than storing an order.
#[derive(Debug)]
pub struct HeldConnection {
    pool: PgPool,
    clock: Clock,
    held: Option<PgConnection>,
    used_at: Instant,
}

impl HeldConnection {
    /// A connection in addition to those of `pool`. Connects on first use.
    pub fn new(kit: &Kit, pool: PgPool) -> Self {
        Self { pool, clock: kit.clock, held: None, used_at: Instant::now() }
    }

    /// The connection. Pings it first if it was idle for more than 1 s, and reconnects if it does not answer.
    pub async fn get(&mut self) -> sqlx::Result<&mut PgConnection> {
        if self.used_at.elapsed() > PING_AFTER
            && let Some(held) = &mut self.held
            && !matches!(timeout(self.clock.shortened(RETURN_TIMEOUT), held.ping()).await, Ok(Ok(())))
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

    /// Drops the connection after something on it failed or took too long. [`Self::get`] opens a new one.
    pub fn discard(&mut self) {
        self.held = None;
    }
}
