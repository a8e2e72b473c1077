//! How far an import has come, for whoever waits for it.

use indicatif::{ProgressBar, ProgressStyle};
use std::{io::IsTerminal, time::Duration};
use tokio::time::Instant;
use tracing::info;

/// How often a container's log says how far the import has come.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// How far an import has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Records read; 0 while a source is still brought here.
    pub read: u64,
    /// Bytes of the source read, as it lies on disk, and all there are where that is known.
    pub bytes: u64,
    pub total_bytes: Option<u64>,
}

/// Tells it on standard error: by a bar on a terminal, else by a line in the log now and then.
#[derive(Debug)]
pub(crate) struct Teller {
    bar: Option<ProgressBar>,
    begun: Instant,
    /// What there was then: an import that goes on has read records that it did not read now.
    first: Option<Progress>,
    last: Progress,
    said: Instant,
}

impl Teller {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let bar = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {msg}")?;
            Some(ProgressBar::no_length().with_style(style))
        } else {
            None
        };
        let now = Instant::now();
        Ok(Self { bar, begun: now, first: None, last: Progress::default(), said: now })
    }

    pub(crate) fn tell(&mut self, progress: Progress) {
        // First it is brought here, then read from the beginning.
        if progress.bytes < self.last.bytes || (progress.read > 0) != (self.last.read > 0) {
            (self.begun, self.first) = (Instant::now(), None);
        }
        self.last = progress;
        let first = *self.first.get_or_insert(progress);
        let passed = self.begun.elapsed().as_secs_f64().max(0.001);
        let records_per_second = (progress.read - first.read) as f64 / passed;
        let bytes_per_second = progress.bytes.saturating_sub(first.bytes) as f64 / passed;
        let left = progress
            .total_bytes
            .filter(|_| bytes_per_second > 0.0)
            .map(|total| total.saturating_sub(progress.bytes) as f64 / bytes_per_second);
        if let Some(bar) = &self.bar {
            if let Some(total) = progress.total_bytes {
                bar.set_length(total);
            }
            bar.set_position(progress.bytes);
            let left = left.map(|left| format!("{left:.0} s left")).unwrap_or_default();
            bar.set_message(if progress.read == 0 {
                left
            } else {
                format!("{} records, {records_per_second:.0}/s  {left}", progress.read)
            });
        } else if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            info!(
                read = progress.read,
                per_second = records_per_second.round(),
                bytes = progress.bytes,
                total_bytes = progress.total_bytes,
                seconds_left = left.map(f64::round),
                "the import goes on"
            );
        }
    }

    /// Makes room for what comes next.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
