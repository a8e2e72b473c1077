//! How findings look in a terminal.

use crate::motion::State;
use comfy_table::{Table, presets};
use owo_colors::{OwoColorize, Stream::Stdout};

/// A plain table with these headings.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    table
}

/// A line that says that something is in order, worth a look, or stuck.
pub(crate) fn check(state: State, what: &str, detail: &str) -> String {
    let mark = match state {
        State::Well => "✓".if_supports_color(Stdout, |mark| mark.green()).to_string(),
        State::Noteworthy => "!".if_supports_color(Stdout, |mark| mark.yellow()).to_string(),
        State::Stuck => "✗".if_supports_color(Stdout, |mark| mark.red()).to_string(),
    };
    format!("{mark} {what:<16}{detail}")
}

/// `text` with its control characters escaped, so that nobody else's message moves the cursor or colours the terminal.
pub(crate) fn printable(text: &str) -> String {
    escape(text, |c| c == '\n' || c == '\t')
}

/// The same, on one line.
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
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(printable("a\x1b[31mb\nc\u{9b}"), "a\\u{1b}[31mb\nc\\u{9b}");
        assert_eq!(printable_line("a\nb\t"), "a\\nb\\t");
    }
}
