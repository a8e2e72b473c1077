//! Values of any type.
//!
//! Over the years, Open Food Facts has written the same field as a number, a string, `null`, or an array in place of an
//! object. Reading a lenient value never fails because of its type: a value that cannot be read is absent, and the
//! record is not lost for one field.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData};

/// Items of a list that are kept. Real lists have some hundred; a line of 16 MiB could have millions.
const MAX_ITEMS: usize = 2000;

/// Text, a number, a list of these, or nothing usable.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Lenient {
    /// Absent, or of a type that no field has.
    #[default]
    Nothing,
    /// A string.
    Text(String),
    /// A number that is negative or not whole, or too large for `Whole`.
    Number(f64),
    /// An exact whole number: a barcode may have more digits than a float holds.
    Whole(u64),
    List(Vec<Lenient>),
    /// `true`; `false` counts as absent.
    Yes,
}

impl Lenient {
    /// Whether the value is absent, blank, or an empty list.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Number(_) | Self::Whole(_) | Self::Yes => false,
        }
    }

    /// The text, or the number as text.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Whole(number) => Some(number.to_string()),
            Self::Number(number) => Some(number.to_string()),
            Self::Nothing | Self::List(_) | Self::Yes => None,
        }
    }

    /// The number, or the text parsed as one; always finite.
    pub(crate) fn number(&self) -> Option<f64> {
        let number = match self {
            Self::Number(number) => *number,
            Self::Whole(number) => *number as f64,
            Self::Text(text) => decimal(text.trim())?,
            Self::Nothing | Self::List(_) | Self::Yes => return None,
        };
        number.is_finite().then_some(number)
    }

    /// Replaces a text that is a number with the number, for a source in which every value is text.
    pub(crate) fn parsed(self) -> Self {
        match self {
            Self::Text(text) => text.trim().parse().map_or(Self::Text(text), Self::Number),
            other => other,
        }
    }

    /// Whether the value means true in any form that records use: `true`, 1, "1", "on" or "true".
    pub(crate) fn is_yes(&self) -> bool {
        match self {
            Self::Yes | Self::Whole(1) => true,
            Self::Text(text) => matches!(text.as_str(), "on" | "1" | "true"),
            _ => false,
        }
    }

    /// The number, if it is whole and below 10^15.
    pub(crate) fn whole(&self) -> Option<i64> {
        let number = self.number()?;
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
        (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
    }

    /// The texts of a list. A single text is split at commas, because some fields were one text before they became a
    /// list.
    pub(crate) fn texts(&self) -> Vec<String> {
        match self {
            Self::List(items) => items.iter().filter_map(Self::text).collect(),
            Self::Text(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
            _ => Vec::new(),
        }
    }
}

/// Parses a number with a decimal point, or with a decimal comma as in much of Europe.
fn decimal(text: &str) -> Option<f64> {
    text.parse().ok().or_else(|| text.replacen(',', ".", 1).parse().ok())
}

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientVisitor)
    }
}

struct LenientVisitor;

impl<'de> Visitor<'de> for LenientVisitor {
    type Value = Lenient;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Lenient, E> {
        Ok(Lenient::Text(text.to_owned()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Lenient, E> {
        Ok(Lenient::Number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Lenient, E> {
        Ok(Lenient::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Lenient, E> {
        Ok(Lenient::Number(number as f64))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Lenient, E> {
        Ok(if value { Lenient::Yes } else { Lenient::Nothing })
    }

    fn visit_unit<E>(self) -> Result<Lenient, E> {
        Ok(Lenient::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Lenient, A::Error> {
        let mut list = Vec::new();
        while list.len() < MAX_ITEMS
            && let Some(item) = items.next_element()?
        {
            list.push(item);
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Lenient::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Lenient, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Lenient::Nothing)
    }
}

/// An object of a known shape; any other value is read as the default.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct LenientObject<T>(pub(crate) T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for LenientObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }
}
