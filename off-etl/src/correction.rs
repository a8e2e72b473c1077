//! Corrections of faulty values, so that a record is not lost for one of them.

use crate::lenient::Lenient;
use off_kit::text::{is_blank, is_direction};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A fault in a record that was corrected. The record became a product all the same.
///
/// Its display text is what reports and metrics show. Its serialized name is stored with the report of an import and
/// must not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Correction {
    /// Bytes that are not UTF-8 became replacement characters.
    #[error("invalid UTF-8")]
    BrokenUtf8,
    /// A surrogate without its other half, such as `\ud83d` alone, became a replacement character.
    #[serde(rename = "half-surrogate")]
    #[error("an unpaired surrogate")]
    UnpairedSurrogate,
    /// Control characters became blanks, and characters that change the direction of text were removed.
    #[error("control characters")]
    ControlCharacters,
    /// HTML entities such as `&amp;` were decoded.
    #[error("HTML entities")]
    HtmlEntities,
    /// A text was cut to its maximum length.
    #[error("an overlong text, cut")]
    LongText,
    /// A value was read although its type is unusual, such as a number as text.
    #[error("a value of another type than usual")]
    OtherType,
    /// A number was left out: negative, not whole, or greater than it can be.
    #[serde(rename = "absurd-number")]
    #[error("an implausible number, left out")]
    ImplausibleNumber,
    /// The time of the last change is absent, or is not between 1970 and 2099.
    #[error("no plausible time of change")]
    NoTime,
    /// More kilocalories than kilojoules: they were exchanged, or left out if their ratio does not show an exchange.
    #[error("more kcal than kJ, exchanged or left out")]
    SwappedEnergy,
    /// The amount in the record differs from the amount on the pack, which was used.
    #[error("an amount that the printed quantity contradicts")]
    OtherAmount,
}

impl Correction {
    /// All kinds, in the order of their declaration.
    pub(crate) const ALL: [Self; 10] = [
        Self::BrokenUtf8,
        Self::UnpairedSurrogate,
        Self::ControlCharacters,
        Self::HtmlEntities,
        Self::LongText,
        Self::OtherType,
        Self::ImplausibleNumber,
        Self::NoTime,
        Self::SwappedEnergy,
        Self::OtherAmount,
    ];
}

/// The set of corrections of a record. Each kind is in it at most once, because the report counts records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Corrections(u16);

impl Corrections {
    /// Adds a correction to the set.
    pub(crate) fn add(&mut self, correction: Correction) {
        self.0 |= 1 << correction as u16;
    }

    /// The corrections, in the order of their declaration.
    pub fn iter(self) -> impl Iterator<Item = Correction> {
        Correction::ALL.into_iter().filter(move |&correction| self.0 & (1 << correction as u16) != 0)
    }
}

/// Reads display text: decodes entities, replaces control characters and runs of blanks with one blank, and truncates
/// it to `max_length` characters. `None` if nothing visible is left.
pub(crate) fn text(value: &Lenient, max_length: usize, corrections: &mut Corrections) -> Option<String> {
    let plain = plain(&value.text()?, corrections);
    if is_blank(&plain) {
        return None;
    }
    let text = truncate(plain.split_whitespace().collect::<Vec<_>>().join(" "), max_length, corrections);
    if !text.is_empty() && matches!(value, Lenient::Whole(_) | Lenient::Number(_)) {
        corrections.add(Correction::OtherType);
    }
    (!text.is_empty()).then_some(text)
}

/// Cleans a tag like a text, but keeps the blanks in it. The result may be empty.
pub(crate) fn tag(value: &str, max_length: usize, corrections: &mut Corrections) -> String {
    let plain = plain(value, corrections);
    truncate(plain.trim().to_owned(), max_length, corrections)
}

/// Decodes entities, replaces control characters with blanks, and removes characters that change the direction of text.
fn plain(raw: &str, corrections: &mut Corrections) -> String {
    let decoded = html_escape::decode_html_entities(raw);
    if let Cow::Owned(_) = decoded {
        corrections.add(Correction::HtmlEntities);
    }
    if decoded.contains(|c: char| is_direction(c) || (c.is_control() && !c.is_whitespace())) {
        corrections.add(Correction::ControlCharacters);
    }
    decoded.replace(is_direction, "").replace(char::is_control, " ")
}

/// Cuts a text to `max_length` characters.
fn truncate(mut text: String, max_length: usize, corrections: &mut Corrections) -> String {
    if let Some((end, _)) = text.char_indices().nth(max_length) {
        corrections.add(Correction::LongText);
        text.truncate(end);
        text.truncate(text.trim_end().len());
        // The text may have been megabytes long, and a batch holds thousands of products.
        text.shrink_to_fit();
    }
    text
}

/// Reads a whole number, also from text.
pub(crate) fn whole(value: &Lenient, corrections: &mut Corrections) -> Option<i64> {
    let whole = value.whole();
    if whole.is_some() && matches!(value, Lenient::Text(_)) {
        corrections.add(Correction::OtherType);
    }
    whole
}

/// Reads a number from 0 to `max`; any other value is dropped and counted as a correction.
pub(crate) fn number(value: &Lenient, max: f64, corrections: &mut Corrections) -> Option<f64> {
    if value.is_empty() {
        return None;
    }
    let number = value.number().filter(|number| (0.0..=max).contains(number));
    match value {
        _ if number.is_none() => corrections.add(Correction::ImplausibleNumber),
        Lenient::Text(_) => corrections.add(Correction::OtherType),
        _ => {}
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_text_releases_its_memory() {
        let mut corrections = Corrections::default();
        let long = text(&Lenient::Text("x".repeat(1_000_000)), 300, &mut corrections).unwrap();
        assert_eq!((long.len(), corrections.iter().collect::<Vec<_>>()), (300, vec![Correction::LongText]));
        assert!(long.capacity() < 1000, "{} bytes", long.capacity());
    }
}
