//! What came of what was sent.

use crate::{api::ApiError, domain::Kind};
use hdrhistogram::Histogram;
use metrics::{counter, histogram};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Counts and latencies since the start. Clones speak of the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Stats(Arc<Mutex<BTreeMap<&'static str, Tally>>>);

#[derive(Debug, Clone)]
struct Tally {
    sent: u64,
    accepted: u64,
    refused: u64,
    failed: u64,
    /// Of what was accepted, in microseconds.
    latencies: Histogram<u64>,
}

/// The orders of devices that are low.
pub(crate) const RESTOCK: &str = "restock";

impl Stats {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // Up to a minute, with two digits.
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 2)?;
        let tally = Tally { sent: 0, accepted: 0, refused: 0, failed: 0, latencies };
        let jobs = Kind::ALL.map(Kind::as_str).into_iter().chain([RESTOCK]);
        Ok(Self(Arc::new(Mutex::new(jobs.map(|job| (job, tally.clone())).collect()))))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the outcome of something that was sent.
    pub(crate) fn note<T>(&self, job: &'static str, latency: Duration, outcome: &Result<T, ApiError>) {
        let name = match outcome {
            Ok(_) => "accepted",
            Err(ApiError::Refused { .. }) => "refused",
            Err(ApiError::Unavailable(_)) => "failed",
        };
        counter!("off_generator_events_total", "job" => job, "outcome" => name).increment(1);
        histogram!("off_generator_event_duration_seconds", "job" => job).record(latency);
        let mut tallies = self.lock();
        let Some(tally) = tallies.get_mut(job) else { return };
        tally.sent += 1;
        match outcome {
            Ok(_) => {
                tally.accepted += 1;
                tally.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            }
            Err(ApiError::Refused { .. }) => tally.refused += 1,
            Err(ApiError::Unavailable(_)) => tally.failed += 1,
        }
    }
}

/// What came of each job so far, in one line.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tallies = self.lock();
        for (index, (job, tally)) in tallies.iter().enumerate() {
            let ms = |quantile| tally.latencies.value_at_quantile(quantile) as f64 / 1000.0;
            let separator = if index == 0 { "" } else { "; " };
            write!(
                f,
                "{separator}{job}: sent {}, accepted {}, refused {}, failed {}, p50 {:.1} ms, p99 {:.1} ms",
                tally.sent,
                tally.accepted,
                tally.refused,
                tally.failed,
                ms(0.5),
                ms(0.99)
            )?;
        }
        Ok(())
    }
}
