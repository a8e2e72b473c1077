//! JSON lines: each line is a record.

use super::{Content, text::Records};
use serde::de::IgnoredAny;

/// Text with a JSON object on each line.
pub(super) struct Lines;

impl Records for Lines {
    fn last_end(&self, text: &[u8]) -> usize {
        memchr::memrchr(b'\n', text).map_or(0, |end| end + 1)
    }

    fn is_whole(&self, rest: &[u8]) -> bool {
        serde_json::from_slice::<IgnoredAny>(rest).is_ok()
    }

    fn content(&self, text: Vec<u8>) -> Content {
        Content::Lines(text)
    }
}
