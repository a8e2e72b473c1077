//! Numbers with nouns, and characters that are invisible or change the direction of text, and so can deceive a reader.

use std::fmt::Display;

/// Whether `c` changes the direction of text: the property `Bidi_Control` (Unicode Standard Annex #9).
pub fn is_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether `c` is invisible by itself: most of the property `Default_Ignorable_Code_Point` (Unicode Standard, section
/// 5.21), and the empty Braille pattern. Some of these characters join letters or select variants, as in Persian and in
/// emoji.
pub fn is_invisible(c: char) -> bool {
    is_direction(c)
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Whether `text` has no visible characters.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || is_invisible(c))
}

/// A number with its noun: `1 order`, `2 orders`, `2 deliveries`.
pub fn counted<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    if number == N::from(1) {
        return format!("1 {noun}");
    }
    match noun.strip_suffix('y') {
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_adapts_the_noun_to_the_number() {
        let counts = [(0, "order"), (1, "order"), (2, "dead letter"), (1, "delivery"), (2, "delivery")];
        let texts = counts.map(|(number, noun)| counted(number, noun));
        assert_eq!(texts, ["0 orders", "1 order", "2 dead letters", "1 delivery", "2 deliveries"]);
    }

    #[test]
    fn only_invisible_text_is_blank() {
        for blank in ["", " \t", "\u{200b}\u{2060}", "\u{202e}", "\u{3164} \u{ad}"] {
            assert!(is_blank(blank), "{blank:?}");
        }
        for text in ["a", "\u{200b}a", "می\u{200c}خواهم", "❤\u{fe0f}"] {
            assert!(!is_blank(text), "{text:?}");
        }
    }
}
