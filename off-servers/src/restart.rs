//! Restarts servers that end by themselves.

use crate::{Nats, Postgres};
use anyhow::Context;
use off_kit::backoff::Backoff;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// A server that ends more often than this within [`PERIOD`] is not restarted again.
const MAX_RESTARTS: usize = 5;
const PERIOD: Duration = Duration::from_mins(5);

/// A server that can be watched and started again.
pub trait Restart {
    /// The name in messages.
    const NAME: &'static str;

    /// Returns an error when the server ends by itself.
    fn watch(&mut self) -> impl Future<Output = anyhow::Result<()>>;

    /// Starts the server again, with the same address and data.
    fn start_again(&mut self) -> impl Future<Output = anyhow::Result<()>>;
}

impl Restart for Postgres {
    const NAME: &'static str = "PostgreSQL";

    async fn watch(&mut self) -> anyhow::Result<()> {
        self.watch().await
    }

    async fn start_again(&mut self) -> anyhow::Result<()> {
        self.start_again().await
    }
}

impl Restart for Nats {
    const NAME: &'static str = "NATS";

    async fn watch(&mut self) -> anyhow::Result<()> {
        self.watch().await
    }

    async fn start_again(&mut self) -> anyhow::Result<()> {
        self.start_again().await
    }
}

/// Restarts `server` with backoff whenever it ends by itself, and passes the reason to `on_restart`. Returns an error
/// when the server ends too often.
pub async fn keep_running<S: Restart>(server: &mut S, on_restart: impl Fn(&str)) -> anyhow::Result<()> {
    let mut ends = VecDeque::new();
    loop {
        let mut outcome = server.watch().await;
        let mut backoff = Backoff::default();
        while let Err(error) = outcome {
            ends.push_back(Instant::now());
            ends.retain(|end: &Instant| end.elapsed() < PERIOD);
            if ends.len() > MAX_RESTARTS {
                let minutes = PERIOD.as_secs() / 60;
                let context = || format!("{} ended {} times within {minutes} minutes, giving up", S::NAME, ends.len());
                return Err(error).with_context(context);
            }
            on_restart(&format!("{} ended unexpectedly and is restarted: {error:#}", S::NAME));
            tokio::time::sleep(backoff.pause()).await;
            outcome = server.start_again().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Ends immediately after each start.
    struct Crashing {
        starts: usize,
    }

    impl Restart for Crashing {
        const NAME: &'static str = "it";

        async fn watch(&mut self) -> anyhow::Result<()> {
            anyhow::bail!("its disk is gone")
        }

        async fn start_again(&mut self) -> anyhow::Result<()> {
            self.starts += 1;
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_ends_too_often_is_not_restarted() {
        let (mut server, restarts) = (Crashing { starts: 0 }, AtomicUsize::new(0));
        let on_restart = |_: &str| {
            restarts.fetch_add(1, Ordering::Relaxed);
        };
        let error = format!("{:#}", keep_running(&mut server, on_restart).await.unwrap_err());
        assert!(error.contains("ended 6 times within 5 minutes") && error.contains("its disk is gone"), "{error}");
        assert_eq!((server.starts, restarts.into_inner()), (MAX_RESTARTS, MAX_RESTARTS));
    }
}
