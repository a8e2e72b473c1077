//! The stock of a product over time as a drawing (SVG), which needs no script.

use crate::page::texts;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use std::fmt::Write;

/// The size of the drawing, in its own units.
const WIDTH: i64 = 300;
const HEIGHT: i64 = 80;

/// The stock at the end of a part of the time, and what happened in it.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Level {
    pub(super) at: DateTime<Utc>,
    pub(super) quantity: i64,
    pub(super) delivered: i64,
    pub(super) taken: i64,
}

/// What is drawn.
#[derive(Debug)]
pub(super) struct Chart {
    /// The line of the stock, in steps.
    pub(super) line: String,
    /// The height of the reorder point.
    pub(super) reorder_point: i64,
    /// Where there were deliveries.
    pub(super) deliveries: Vec<i64>,
    /// The same as a text.
    pub(super) text: String,
}

impl Chart {
    pub(super) fn new(levels: &[Level], reorder_point: i64) -> Self {
        let highest = levels.iter().map(|level| level.quantity).max().unwrap_or_default().max(reorder_point).max(1);
        let height = |quantity: i64| HEIGHT - quantity.clamp(0, highest) * HEIGHT / highest;
        let count = i64::try_from(levels.len()).unwrap_or(1).max(1);
        let mut line = String::new();
        let mut deliveries = Vec::new();
        for (index, level) in levels.iter().enumerate() {
            let part = i64::try_from(index).unwrap_or_default();
            let (start, end, y) = (part * WIDTH / count, (part + 1) * WIDTH / count, height(level.quantity));
            let command = if index == 0 { 'M' } else { 'L' };
            // Cannot fail: it writes into memory.
            let _ = write!(line, "{command}{start} {y}L{end} {y}");
            if level.delivered > 0 {
                deliveries.push(end);
            }
        }
        let (delivered, taken): (i64, i64) =
            levels.iter().fold((0, 0), |sums, level| (sums.0 + level.delivered, sums.1 + level.taken));
        let text = match (levels.first(), levels.last()) {
            (Some(first), Some(last)) => texts::stock(first.quantity, last.quantity, delivered, taken, &last.at),
            _ => String::new(),
        };
        Self { line, reorder_point: height(reorder_point), deliveries, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn the_line_goes_in_steps_from_left_to_right() {
        let level = |minutes, quantity, delivered| Level {
            at: DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes),
            quantity,
            delivered,
            taken: 0,
        };
        let chart = Chart::new(&[level(0, 0, 0), level(15, 8, 8), level(30, 4, 0)], 2);
        assert_eq!(chart.line, "M0 80L100 80L100 0L200 0L200 40L300 40");
        assert_eq!((chart.reorder_point, chart.deliveries), (60, vec![200]));
        assert!(chart.text.contains("from 0 to 4 units, 8 delivered"), "{}", chart.text);
        assert!(Chart::new(&[], 0).line.is_empty());
    }
}
