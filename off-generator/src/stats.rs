//! Statistics of the generator's requests and messages, by kind of event.

use crate::{
    api::ApiError,
    domain::{Kind, PAY},
};
use hdrhistogram::Histogram;
use metrics::{counter, histogram};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Counts and latencies since the start. Clones share their state.
#[derive(Debug, Clone)]
pub(crate) struct Stats(Arc<Mutex<BTreeMap<&'static str, KindStats>>>);

/// The statistics of one kind.
#[derive(Debug, Clone)]
struct KindStats {
    sent: u64,
    accepted: u64,
    rejected: u64,
    failed: u64,
    /// Latencies of what was accepted, in microseconds.
    latencies: Histogram<u64>,
}

/// The kind of an order by a device with a low product. It follows from a `stock.low`, and is not in the plan.
pub(crate) const RESTOCK: &str = "restock";

impl Stats {
    /// Statistics without any events yet.
    pub(crate) fn new() -> anyhow::Result<Self> {
        // From 1 µs to one minute, with two significant digits.
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 2)?;
        let stats = KindStats { sent: 0, accepted: 0, rejected: 0, failed: 0, latencies };
        let kinds = Kind::ALL.map(Kind::as_str).into_iter().chain([PAY, RESTOCK]);
        Ok(Self(Arc::new(Mutex::new(kinds.map(|kind| (kind, stats.clone())).collect()))))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, KindStats>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the outcome and the latency of a request or message for an event of this kind.
    pub(crate) fn record<T>(&self, kind: &'static str, latency: Duration, outcome: &Result<T, ApiError>) {
        let name = match outcome {
            Ok(_) => "accepted",
            Err(ApiError::Rejected { .. }) => "rejected",
            Err(ApiError::Unavailable(_)) => "failed",
        };
        counter!("off_generator_events_total", "kind" => kind, "outcome" => name).increment(1);
        histogram!("off_generator_event_duration_seconds", "kind" => kind).record(latency);
        let mut kinds = self.lock();
        let Some(stats) = kinds.get_mut(kind) else { return };
        stats.sent += 1;
        match outcome {
            Ok(_) => {
                stats.accepted += 1;
                stats.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            }
            Err(ApiError::Rejected { .. }) => stats.rejected += 1,
            Err(ApiError::Unavailable(_)) => stats.failed += 1,
        }
    }
}

/// The statistics of all kinds in one line.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.lock();
        for (index, (kind, stats)) in kinds.iter().enumerate() {
            let ms = |quantile| stats.latencies.value_at_quantile(quantile) as f64 / 1000.0;
            let separator = if index == 0 { "" } else { "; " };
            write!(
                f,
                "{separator}{kind}: sent {}, accepted {}, rejected {}, failed {}, p50 {:.1} ms, p99 {:.1} ms",
                stats.sent,
                stats.accepted,
                stats.rejected,
                stats.failed,
                ms(0.5),
                ms(0.99)
            )?;
        }
        Ok(())
    }
}
