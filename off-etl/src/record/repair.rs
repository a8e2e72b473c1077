//! Corrections of lines that are not valid JSON.

use crate::correction::Correction;

/// Repairs a text; `None` if there is nothing to repair.
type Repair = fn(&str) -> Option<String>;

/// The repairs that are tried on a line, each on the result of the one before.
pub(super) const REPAIRS: [(Correction, Repair); 3] = [
    (Correction::UnpairedSurrogate, replace_surrogates),
    (Correction::ControlCharacters, blank_controls),
    (Correction::ImplausibleNumber, without_infinities),
];

/// Replaces each unpaired surrogate, such as a `\ud83d` alone, with `\ufffd`.
fn replace_surrogates(text: &str) -> Option<String> {
    let unit = |at: usize| -> Option<u16> {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut corrected, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                corrected.push_str(&text[copied..at]);
                corrected.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
            // Another escape. Its second character may be a backslash, but starts no escape.
            None => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    corrected.push_str(&text[copied..]);
    (copied > 0).then_some(corrected)
}

/// Replaces control characters with blanks, because JSON allows them only between tokens.
fn blank_controls(text: &str) -> Option<String> {
    text.contains(|c: char| c.is_ascii_control()).then(|| text.replace(|c: char| c.is_ascii_control(), " "))
}

/// Replaces each number that is too large for a float with `null`.
fn without_infinities(text: &str) -> Option<String> {
    let (mut corrected, mut copied, mut at, mut is_within) = (String::new(), 0, 0, false);
    let is_number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    while let Some(&byte) = text.as_bytes().get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => is_within = !is_within,
            b'-' | b'0'..=b'9' if !is_within => {
                let length = text.bytes().skip(at).take_while(|&byte| is_number(byte)).count();
                if text[at..at + length].parse().is_ok_and(f64::is_infinite) {
                    corrected.push_str(&text[copied..at]);
                    corrected.push_str("null");
                    copied = at + length;
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    corrected.push_str(&text[copied..]);
    (copied > 0).then_some(corrected)
}
