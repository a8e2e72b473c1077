//! What is put right in a record instead of losing it.

use serde::{Deserialize, Serialize};

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
    #[error("an absurd number, left out")]
    AbsurdNumber,
    #[error("no time of change that can be")]
    NoTime,
}

impl Mend {
    const ALL: [Self; 8] = [
        Self::BrokenUtf8,
        Self::HalfSurrogate,
        Self::ControlCharacters,
        Self::HtmlEntities,
        Self::LongText,
        Self::OtherType,
        Self::AbsurdNumber,
        Self::NoTime,
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
