//! Colors that are readable on dark and light backgrounds: each has a contrast of at least 4 with black and with white.

use off_events::streams::DEAD_LETTER_PREFIX;

/// One of the 256 terminal colors: <https://en.wikipedia.org/wiki/ANSI_escape_code#8-bit>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Color(pub(crate) u8);

pub(crate) const PENDING: Color = Color(31);
pub(crate) const PAID: Color = Color(29);
pub(crate) const SHIPPED: Color = Color(63);
pub(crate) const COMPLETED: Color = Color(28);
pub(crate) const REFUSED: Color = Color(131);
pub(crate) const CANCELLED: Color = Color(96);
pub(crate) const LOW: Color = Color(130);
pub(crate) const CONSUMED: Color = Color(133);
pub(crate) const ERROR: Color = Color(161);

/// The color of a subject; `None` for less interesting ones.
pub(crate) fn of_subject(subject: &str) -> Option<Color> {
    match subject.split('.').nth(1) {
        _ if subject.starts_with(DEAD_LETTER_PREFIX) => Some(ERROR),
        Some("pending" | "random" | "new") => Some(PENDING),
        Some("paid") => Some(PAID),
        Some("ship" | "shipped") => Some(SHIPPED),
        Some("completed" | "registered") => Some(COMPLETED),
        Some("refused") => Some(REFUSED),
        Some("cancelled") => Some(CANCELLED),
        Some("low" | "low_balance") => Some(LOW),
        Some("consumed") => Some(CONSUMED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The relative luminance of WCAG 2, <https://www.w3.org/TR/WCAG22/#dfn-relative-luminance>.
    fn luminance(Color(number): Color) -> f64 {
        let index = number - 16;
        let linear = |step: u8| {
            let value = [0.0, 95.0, 135.0, 175.0, 215.0, 255.0][usize::from(step)] / 255.0;
            if value <= 0.04045 { value / 12.92 } else { f64::powf((value + 0.055) / 1.055, 2.4) }
        };
        0.2126 * linear(index / 36) + 0.7152 * linear(index / 6 % 6) + 0.0722 * linear(index % 6)
    }

    #[test]
    fn every_color_has_enough_contrast_with_black_and_white() {
        for color in [PENDING, PAID, SHIPPED, COMPLETED, REFUSED, CANCELLED, LOW, CONSUMED, ERROR] {
            let (on_white, on_black) = (1.05 / (luminance(color) + 0.05), (luminance(color) + 0.05) / 0.05);
            assert!(on_white >= 4.0 && on_black >= 4.0, "{color:?}: {on_white} and {on_black}");
        }
    }
}
