//! Restarting a server that ends by itself.

use super::{Nats, Postgres};
use crate::backoff::Backoff;
use anyhow::Context;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// A server that ends more often than this within [`PERIOD`] is given up.
const MOST_RESTARTS: usize = 5;
const PERIOD: Duration = Duration::from_mins(5);

/// A server that can be watched and started again.
pub trait Restart {
    const NAME: &'static str;

    /// Ends with an error when the server ends by itself.
    fn watch(&mut self) -> impl Future<Output = anyhow::Result<()>>;

    /// Starts it again at the same address, with all it had.
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

/// Restarts `server` whenever it ends by itself, later each time; tells `on_restart` why. Ends with an error when it ends too often.
pub async fn keep_running<S: Restart>(server: &mut S, on_restart: impl Fn(&str)) -> anyhow::Result<()> {
    let mut ends = VecDeque::new();
    loop {
        let mut outcome = server.watch().await;
        let mut backoff = Backoff::default();
        while let Err(error) = outcome {
            ends.push_back(Instant::now());
            ends.retain(|end: &Instant| end.elapsed() < PERIOD);
            if ends.len() > MOST_RESTARTS {
                let minutes = PERIOD.as_secs() / 60;
                let given_up = || format!("{} ended {} times within {minutes} minutes: given up", S::NAME, ends.len());
                return Err(error).with_context(given_up);
            }
            on_restart(&format!("{} ended by itself and is restarted: {error:#}", S::NAME));
            tokio::time::sleep(backoff.pause()).await;
            outcome = server.start_again().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Ends at once, each time.
    struct Hopeless {
        starts: usize,
    }

    impl Restart for Hopeless {
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
    async fn a_server_that_does_not_stay_is_given_up() {
        let (mut server, told) = (Hopeless { starts: 0 }, AtomicUsize::new(0));
        let on_restart = |_: &str| {
            told.fetch_add(1, Ordering::Relaxed);
        };
        let error = format!("{:#}", keep_running(&mut server, on_restart).await.unwrap_err());
        assert!(error.contains("ended 6 times within 5 minutes") && error.contains("its disk is gone"), "{error}");
        assert_eq!((server.starts, told.into_inner()), (MOST_RESTARTS, MOST_RESTARTS));
    }
}
