//! What a caller learns of an import while it runs.

use crate::report::Report;

/// Receives the progress and the reports of imports. The default methods do nothing.
pub trait Observer {
    /// The progress of an import or of a download: after each chunk, and every second without one.
    fn on_progress(&mut self, _progress: Progress) {}

    /// The report so far, after each page of the API.
    fn on_page(&mut self, _report: &Report) {}

    /// The whole report of the source or delta `name`, before its import is stored as finished. An import that is
    /// killed in between reports again when it is resumed, so no report is lost.
    fn on_report(&mut self, _name: &str, _report: &Report) {}
}

/// Ignores everything.
#[derive(Debug, Clone, Copy)]
pub struct NoObserver;

impl Observer for NoObserver {}

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

impl Progress {
    /// Progress of a download, which reads no records.
    pub(crate) fn of_download(bytes: u64, total_bytes: Option<u64>) -> Self {
        Self { read: 0, bytes, total_bytes }
    }
}
