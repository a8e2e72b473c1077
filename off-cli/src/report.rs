//! How findings look in a terminal.

use comfy_table::{Table, presets};
use owo_colors::{OwoColorize, Stream::Stdout};

/// A plain table with these headings.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    table
}

/// A line that says that something is in order, or not.
pub(crate) fn check(ok: bool, what: &str, detail: &str) -> String {
    let mark = if ok { "✓" } else { "✗" };
    let mark = if ok {
        mark.if_supports_color(Stdout, |mark| mark.green()).to_string()
    } else {
        mark.if_supports_color(Stdout, |mark| mark.red()).to_string()
    };
    format!("{mark} {what:<16}{detail}")
}
