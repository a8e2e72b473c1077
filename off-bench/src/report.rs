//! Output of results and progress.

use comfy_table::{Table, presets};
use std::io::Write;

/// Median of the figures; NaN if there are none.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// An empty table with these columns.
pub fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns);
    table
}

/// Shows the current step on standard error; the next call replaces it.
pub fn progress(text: &str) {
    eprint!("\r\x1b[K{text}");
    // Progress is optional, so an error is ignored.
    let _ = std::io::stderr().flush();
}

/// Prints a ratio, its target and whether it was reached: `name 3.40 ×   at least 3 ×   reached`.
pub fn ratio(name: &str, figure: f64, at_least: f64) {
    let verdict = if figure >= at_least { "reached" } else { "NOT reached" };
    println!("{name:<58} {figure:>7.2} ×   at least {at_least} ×   {verdict}");
}

/// Prints a figure, its upper limit and whether it was kept.
pub fn at_most(name: &str, figure: f64, max: f64, unit: &str) {
    let verdict = if figure <= max { "reached" } else { "NOT reached" };
    println!("{name:<58} {figure:>7.2} {unit}   at most {max} {unit}   {verdict}");
}
