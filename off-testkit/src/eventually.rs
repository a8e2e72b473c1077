//! Polls for a condition, instead of a fixed sleep.

use std::{fmt::Debug, time::Duration};
use tokio::time::Instant;

/// How long a test waits for a condition: twice the ack wait, after which the broker redelivers the unacknowledged
/// messages of a killed service.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Polls `found` until it returns a value. Panics with the description `what` after a minute.
pub async fn eventually<T: Debug, F: Future<Output = Option<T>>>(what: &str, found: impl FnMut() -> F) -> T {
    eventually_within(TIMEOUT, what, found).await
}

/// [`eventually`] with another timeout.
pub async fn eventually_within<T: Debug, F: Future<Output = Option<T>>>(
    timeout: Duration,
    what: &str,
    mut found: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = found().await {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out after {} s: {what}", timeout.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
