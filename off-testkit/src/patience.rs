//! Waiting for a condition instead of sleeping.

use std::{fmt::Debug, time::Duration};
use tokio::time::Instant;

/// How long a test waits for something that has to happen: twice the ack wait, after which a message comes again that a
/// killed service had in hand.
const PATIENCE: Duration = Duration::from_mins(1);

/// Asks again and again until `found` has a value; panics with `what` when that takes too long.
pub async fn eventually<T: Debug, F: Future<Output = Option<T>>>(what: &str, found: impl FnMut() -> F) -> T {
    eventually_within(PATIENCE, what, found).await
}

/// The same, with a patience of the test's choice.
pub async fn eventually_within<T: Debug, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut found: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = found().await {
            return value;
        }
        assert!(Instant::now() < deadline, "it did not happen within {} s: {what}", patience.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
