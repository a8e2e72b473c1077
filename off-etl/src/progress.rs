//! Progress of an import on standard error.

use crate::{
    observer::{Observer, Progress},
    report::Report,
};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use std::{io::IsTerminal, time::Duration};
use tokio::time::Instant;
use tracing::info;

/// How often progress is logged where standard error is no terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Shows progress on standard error: as a progress bar on a terminal, else as a log line every few seconds. Removes the
/// bar when it gets a report or is dropped, so that other output can follow.
#[derive(Debug, Default)]
pub struct ProgressReporter {
    /// `None` until the import reports its first progress.
    current: Option<Current>,
}

/// What is shown of one import.
#[derive(Debug)]
struct Current {
    bar: Option<ProgressBar>,
    /// When `first` was reported.
    started: Instant,
    /// The progress from which rates are computed. A resumed import already counts records of earlier runs, which the
    /// rate must not include.
    first: Progress,
    last: Progress,
    last_logged: Instant,
}

/// Progress with what follows from it.
struct Rates {
    records_per_second: f64,
    seconds_left: Option<f64>,
}

impl Observer for ProgressReporter {
    fn on_progress(&mut self, progress: Progress) {
        self.current.get_or_insert_with(|| Current::new(progress)).show(progress);
    }

    fn on_report(&mut self, _name: &str, _report: &Report) {
        self.current = None;
    }
}

impl Current {
    fn new(first: Progress) -> Self {
        let now = Instant::now();
        Self { bar: bar(), started: now, first, last: first, last_logged: now }
    }

    fn show(&mut self, progress: Progress) {
        let rates = self.rates(progress);
        if let Some(bar) = &self.bar {
            draw(bar, progress, &rates);
        } else if self.last_logged.elapsed() >= LOG_INTERVAL {
            self.last_logged = Instant::now();
            info!(
                read = progress.read,
                per_second = rates.records_per_second.round(),
                bytes = progress.bytes,
                total_bytes = progress.total_bytes,
                seconds_left = rates.seconds_left.map(f64::round),
                "import progress"
            );
        }
    }

    /// The rates since the start. Begins to measure anew where counting starts over.
    fn rates(&mut self, progress: Progress) -> Rates {
        // The download has ended and reading starts, or reading started again: both count from zero.
        if progress.bytes < self.last.bytes || (progress.read > 0) != (self.last.read > 0) {
            (self.started, self.first) = (Instant::now(), progress);
        }
        self.last = progress;
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let bytes_per_second = progress.bytes.saturating_sub(self.first.bytes) as f64 / seconds;
        let seconds_left = progress
            .total_bytes
            .filter(|_| bytes_per_second > 0.0)
            .map(|total| total.saturating_sub(progress.bytes) as f64 / bytes_per_second);
        Rates { records_per_second: (progress.read - self.first.read) as f64 / seconds, seconds_left }
    }
}

/// A bar that is removed when it is dropped; `None` if standard error is no terminal.
fn bar() -> Option<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    // The template is valid, so the fallback is never used.
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    Some(ProgressBar::no_length().with_style(style).with_finish(ProgressFinish::AndClear))
}

fn draw(bar: &ProgressBar, progress: Progress, rates: &Rates) {
    if let Some(total) = progress.total_bytes {
        bar.set_length(total);
    }
    bar.set_position(progress.bytes);
    let left = rates.seconds_left.map(|left| format!("{left:.0} s left")).unwrap_or_default();
    bar.set_message(if progress.read == 0 {
        left
    } else {
        format!("{} records, {:.0}/s  {left}", progress.read, rates.records_per_second)
    });
}
