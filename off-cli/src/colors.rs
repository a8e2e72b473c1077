//! Colours that can be read on a dark and on a light background: each has a contrast of at least 4 with black and with white.

/// A colour of the 256 that terminals have: <https://en.wikipedia.org/wiki/ANSI_escape_code#8-bit>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Color(pub(crate) u8);

pub(crate) const PENDING: Color = Color(31);
pub(crate) const SHIPPED: Color = Color(63);
pub(crate) const COMPLETED: Color = Color(28);
pub(crate) const LOW: Color = Color(130);
pub(crate) const CONSUMED: Color = Color(133);
pub(crate) const WRONG: Color = Color(161);

/// The colour of a subject; those that have none are of less interest.
pub(crate) fn of_subject(subject: &str) -> Option<Color> {
    match subject.split('.').nth(1) {
        _ if subject.starts_with("dead.") => Some(WRONG),
        Some("pending" | "random" | "new") => Some(PENDING),
        Some("shipped") => Some(SHIPPED),
        Some("completed" | "registered") => Some(COMPLETED),
        Some("low") => Some(LOW),
        Some("consumed") => Some(CONSUMED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The relative luminance of WCAG 2, <https://www.w3.org/TR/WCAG22/#dfn-relative-luminance>.
    fn luminance(Color(number): Color) -> f64 {
        let place = number - 16;
        let linear = |step: u8| {
            let value = [0.0, 95.0, 135.0, 175.0, 215.0, 255.0][usize::from(step)] / 255.0;
            if value <= 0.04045 { value / 12.92 } else { f64::powf((value + 0.055) / 1.055, 2.4) }
        };
        0.2126 * linear(place / 36) + 0.7152 * linear(place / 6 % 6) + 0.0722 * linear(place % 6)
    }

    #[test]
    fn every_colour_can_be_read_on_black_and_on_white() {
        for color in [PENDING, SHIPPED, COMPLETED, LOW, CONSUMED, WRONG] {
            let (on_white, on_black) = (1.05 / (luminance(color) + 0.05), (luminance(color) + 0.05) / 0.05);
            assert!(on_white >= 4.0 && on_black >= 4.0, "{color:?}: {on_white} and {on_black}");
        }
    }
}
