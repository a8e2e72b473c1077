//! What was measured, for people.

use comfy_table::{Table, presets};
use std::io::Write;

/// The middle one of some figures.
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

/// What is being done, on the terminal only.
pub fn progress(text: &str) {
    eprint!("\r\x1b[K{text}");
    // Where it cannot be shown it is not missed.
    let _ = std::io::stderr().flush();
}

/// A ratio beside what was hoped for: `name 3.4 × (at least 3)`.
pub fn ratio(name: &str, figure: f64, at_least: f64) {
    let verdict = if figure >= at_least { "reached" } else { "NOT reached" };
    println!("{name:<58} {figure:>7.2} ×   at least {at_least} ×   {verdict}");
}

/// The same for what should be small.
pub fn at_most(name: &str, figure: f64, most: f64, unit: &str) {
    let verdict = if figure <= most { "reached" } else { "NOT reached" };
    println!("{name:<58} {figure:>7.2} {unit}   at most {most} {unit}   {verdict}");
}
