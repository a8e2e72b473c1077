//! What is put right in a record instead of losing it.

use crate::loose::Loose;
use off_kit::text::{is_blank, is_direction};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Something that was wrong with a record that became a product all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Mend {
    #[error("bytes that are no UTF-8")]
    BrokenUtf8,
    #[error("half a surrogate pair")]
    HalfSurrogate,
    #[error("control characters")]
    ControlCharacters,
    #[error("HTML entities")]
    HtmlEntities,
    #[error("a text that is far too long, cut")]
    LongText,
    #[error("a value of another type than usual")]
    OtherType,
    #[error("a number that cannot be, left out")]
    AbsurdNumber,
    #[error("no time of change that can be")]
    NoTime,
    #[error("more kcal than kJ, exchanged or left out")]
    SwappedEnergy,
    #[error("an amount that its text contradicts")]
    OtherAmount,
}

impl Mend {
    const ALL: [Self; 10] = [
        Self::BrokenUtf8,
        Self::HalfSurrogate,
        Self::ControlCharacters,
        Self::HtmlEntities,
        Self::LongText,
        Self::OtherType,
        Self::AbsurdNumber,
        Self::NoTime,
        Self::SwappedEnergy,
        Self::OtherAmount,
    ];
}

/// Each at most once: a record is counted, not its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mends(u16);

impl Mends {
    pub(crate) fn add(&mut self, mend: Mend) {
        self.0 |= 1 << mend as u16;
    }

    pub fn iter(self) -> impl Iterator<Item = Mend> {
        Mend::ALL.into_iter().filter(move |&mend| self.0 & (1 << mend as u16) != 0)
    }
}

/// Text for people: entities decoded, control characters and runs of blanks made one blank, cut where it is absurdly
/// long; `None` when nothing is left that can be seen.
pub(crate) fn text(value: &Loose, longest: usize, mends: &mut Mends) -> Option<String> {
    let plain = plain(&value.text()?, mends);
    if is_blank(&plain) {
        return None;
    }
    let text = cut(plain.split_whitespace().collect::<Vec<_>>().join(" "), longest, mends);
    if !text.is_empty() && matches!(value, Loose::Whole(_) | Loose::Number(_)) {
        mends.add(Mend::OtherType);
    }
    (!text.is_empty()).then_some(text)
}

/// A tag, which is as it is but for what no text may hold; nothing may be left of it.
pub(crate) fn tag(value: &str, longest: usize, mends: &mut Mends) -> String {
    let plain = plain(value, mends);
    cut(plain.trim().to_owned(), longest, mends)
}

/// Entities decoded, blanks for control characters, and nothing for those that change the direction of what follows.
fn plain(raw: &str, mends: &mut Mends) -> String {
    let decoded = html_escape::decode_html_entities(raw);
    if let Cow::Owned(_) = decoded {
        mends.add(Mend::HtmlEntities);
    }
    if decoded.contains(|c: char| is_direction(c) || (c.is_control() && !c.is_whitespace())) {
        mends.add(Mend::ControlCharacters);
    }
    decoded.replace(is_direction, "").replace(char::is_control, " ")
}

fn cut(mut text: String, longest: usize, mends: &mut Mends) -> String {
    if let Some((end, _)) = text.char_indices().nth(longest) {
        mends.add(Mend::LongText);
        text.truncate(end);
        text.truncate(text.trim_end().len());
        // It may have been megabytes, and products wait by the thousand.
        text.shrink_to_fit();
    }
    text
}

/// A whole number; a text that is one is taken for it.
pub(crate) fn whole(value: &Loose, mends: &mut Mends) -> Option<i64> {
    let whole = value.whole();
    if whole.is_some() && matches!(value, Loose::Text(_)) {
        mends.add(Mend::OtherType);
    }
    whole
}

/// A number from 0 to `most`; what is given and is none is left out.
pub(crate) fn number(value: &Loose, most: f64, mends: &mut Mends) -> Option<f64> {
    if value.is_empty() {
        return None;
    }
    let number = value.number().filter(|number| (0.0..=most).contains(number));
    match value {
        _ if number.is_none() => mends.add(Mend::AbsurdNumber),
        Loose::Text(_) => mends.add(Mend::OtherType),
        _ => {}
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_takes_no_more_room_than_is_left() {
        let mut mends = Mends::default();
        let long = text(&Loose::Text("x".repeat(1_000_000)), 300, &mut mends).unwrap();
        assert_eq!((long.len(), mends.iter().collect::<Vec<_>>()), (300, vec![Mend::LongText]));
        assert!(long.capacity() < 1000, "{} bytes", long.capacity());
    }
}
