//! Counts orders, however many callers ask.

use crate::{domain::Counts, store};
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// Counts are used for at least this long.
const MIN_AGE: Duration = Duration::from_secs(1);

/// Counts are used for so many times as long as it took to count: counting takes at most a twentieth of a processor.
const MAX_SHARE: u32 = 20;

/// The last counts. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<Mutex<Option<Counted>>>);

#[derive(Debug)]
struct Counted {
    counts: Counts,
    expires_at: Instant,
}

impl Counter {
    /// The counts; while somebody counts, others wait for the same.
    pub(crate) async fn counts(&self, db: &PgPool) -> sqlx::Result<Counts> {
        let mut last = self.0.lock().await;
        let started = Instant::now();
        if let Some(counted) = last.as_ref().filter(|counted| started < counted.expires_at) {
            return Ok(counted.counts);
        }
        let counts = store::count_orders(db).await?;
        let expires_at = Instant::now() + (started.elapsed() * MAX_SHARE).max(MIN_AGE);
        *last = Some(Counted { counts, expires_at });
        Ok(counts)
    }
}
