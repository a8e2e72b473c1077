//! Where records end in a text.

/// Finds the boundaries of records in a text.
pub(super) trait Boundaries {
    /// The end of the last complete record in `text`, including its line feed; 0 if there is none. `text` starts with a
    /// record.
    fn last_end(&self, text: &[u8]) -> usize;

    /// Whether `rest`, the text before damage, is a complete record.
    fn is_whole(&self, rest: &[u8]) -> bool;
}
