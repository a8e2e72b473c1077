//! JSON lines: each line is a record.

use super::boundaries::Boundaries;
use crate::reject::RejectReason;
use serde::de::IgnoredAny;

/// Whole lines with a JSON object on each.
#[derive(Debug)]
pub(super) struct Lines(pub(super) Vec<u8>);

impl Lines {
    /// Parses each line, and passes its record to `emit`, with the line counted from 0, until they end or `emit` returns
    /// false.
    pub(super) fn read<R>(
        &self,
        parse: impl Fn(&[u8]) -> Result<R, RejectReason>,
        mut emit: impl FnMut(u64, Result<R, RejectReason>) -> bool,
    ) {
        for (number, line) in (0..).zip(self.0.split(|&byte| byte == b'\n')) {
            let is_blank = line.trim_ascii().is_empty();
            if !is_blank && !emit(number, parse(line)) {
                return;
            }
        }
    }
}

/// A record ends where its line ends.
pub(super) struct LineBoundaries;

impl Boundaries for LineBoundaries {
    fn last_end(&self, text: &[u8]) -> usize {
        memchr::memrchr(b'\n', text).map_or(0, |end| end + 1)
    }

    fn is_whole(&self, rest: &[u8]) -> bool {
        serde_json::from_slice::<IgnoredAny>(rest).is_ok()
    }
}
