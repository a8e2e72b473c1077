//! Formats output for a terminal.

use comfy_table::{Table, presets};
use owo_colors::{OwoColorize, Stream::Stdout};

/// The status of something that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Works.
    Healthy,
    /// Needs attention, but blocks nothing.
    Warning,
    /// Does not work, or is stalled.
    Failed,
}

impl From<bool> for Status {
    fn from(is_healthy: bool) -> Self {
        if is_healthy { Self::Healthy } else { Self::Failed }
    }
}

/// An empty table without borders, with these headings.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    table
}

/// A line with a mark for the status: `✓` healthy, `!` warning, `✗` failed.
pub fn check(status: Status, what: &str, detail: &str) -> String {
    let mark = match status {
        Status::Healthy => "✓".if_supports_color(Stdout, |mark| mark.green()).to_string(),
        Status::Warning => "!".if_supports_color(Stdout, |mark| mark.yellow()).to_string(),
        Status::Failed => "✗".if_supports_color(Stdout, |mark| mark.red()).to_string(),
    };
    format!("{mark} {what:<16}{detail}")
}

/// `text` with control characters escaped except line feed and tab, so that foreign text cannot send escape sequences
/// to the terminal.
pub(crate) fn printable(text: &str) -> String {
    escape(text, |c| c == '\n' || c == '\t')
}

/// `text` with all control characters escaped, on one line.
pub(crate) fn printable_line(text: &str) -> String {
    escape(text, |_| false)
}

fn escape(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !is_kept(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\x1b[31mb\nc\u{9b}"), "a\\u{1b}[31mb\nc\\u{9b}");
        assert_eq!(printable_line("a\nb\t"), "a\\nb\\t");
    }
}
