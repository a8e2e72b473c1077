//! Progress of an import, for display.

use indicatif::{ProgressBar, ProgressStyle};
use std::{io::IsTerminal, time::Duration};
use tokio::time::Instant;
use tracing::info;

/// How often progress is logged where standard error is no terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Progress of an import.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Records read; 0 while a source is still being downloaded.
    pub read: u64,
    /// Bytes of the source read, compressed as on disk.
    pub bytes: u64,
    /// Length of the source in bytes, if known.
    pub total_bytes: Option<u64>,
}

/// Shows progress on standard error: as a progress bar on a terminal, else as a log line every few seconds.
#[derive(Debug)]
pub(crate) struct ProgressReporter {
    bar: Option<ProgressBar>,
    started: Instant,
    /// The progress at the start. A resumed import already counts records of earlier runs, which the rate must not
    /// include.
    first: Option<Progress>,
    last: Progress,
    last_logged: Instant,
}

impl ProgressReporter {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let bar = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {msg}")?;
            Some(ProgressBar::no_length().with_style(style))
        } else {
            None
        };
        let now = Instant::now();
        Ok(Self { bar, started: now, first: None, last: Progress::default(), last_logged: now })
    }

    pub(crate) fn report(&mut self, progress: Progress) {
        // The download has ended and reading starts, or reading started again: both count from zero.
        if progress.bytes < self.last.bytes || (progress.read > 0) != (self.last.read > 0) {
            (self.started, self.first) = (Instant::now(), None);
        }
        self.last = progress;
        let first = *self.first.get_or_insert(progress);
        let passed = self.started.elapsed().as_secs_f64().max(0.001);
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
        } else if self.last_logged.elapsed() >= LOG_INTERVAL {
            self.last_logged = Instant::now();
            info!(
                read = progress.read,
                per_second = records_per_second.round(),
                bytes = progress.bytes,
                total_bytes = progress.total_bytes,
                seconds_left = left.map(f64::round),
                "import progress"
            );
        }
    }

    /// Removes the progress bar, so that other output can follow.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
