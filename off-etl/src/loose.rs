//! Values whose type is not to be trusted.
//!
//! Open Food Facts has written the same field as a number, a string, `null`, an array in place of an object and back
//! again over the years. Reading one of these never fails on account of a type: what is not understood is as good as
//! absent, and a record is not lost for one field.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use std::fmt;

/// The most items of a list that are kept: real ones have some hundred, and a line of 16 MiB could have millions.
const MOST_ITEMS: usize = 2000;

/// Text, a number, a list of such, or nothing of use.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Loose {
    #[default]
    Nothing,
    Text(String),
    Number(f64),
    /// A whole number, exactly: a barcode may have more digits than a float.
    Whole(u64),
    List(Vec<Loose>),
    Yes,
}

impl Loose {
    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Number(_) | Self::Whole(_) | Self::Yes => false,
        }
    }

    /// Text as it is; a number as it is written.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Whole(number) => Some(number.to_string()),
            Self::Number(number) => Some(number.to_string()),
            Self::Nothing | Self::List(_) | Self::Yes => None,
        }
    }

    /// A number, or text that is one; never infinite.
    pub(crate) fn number(&self) -> Option<f64> {
        let number = match self {
            Self::Number(number) => *number,
            Self::Whole(number) => *number as f64,
            Self::Text(text) => decimal(text.trim())?,
            Self::Nothing | Self::List(_) | Self::Yes => return None,
        };
        number.is_finite().then_some(number)
    }

    /// Whether it says yes, in any of the ways that were used.
    pub(crate) fn is_yes(&self) -> bool {
        match self {
            Self::Yes | Self::Whole(1) => true,
            Self::Text(text) => matches!(text.as_str(), "on" | "1" | "true"),
            _ => false,
        }
    }

    /// A whole number; a fraction is none.
    pub(crate) fn whole(&self) -> Option<i64> {
        let number = self.number()?;
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
        (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
    }

    /// The texts of a list; a lone text is split at commas, as in fields that were one text before they were a list.
    pub(crate) fn texts(&self) -> Vec<String> {
        match self {
            Self::List(items) => items.iter().filter_map(Self::text).collect(),
            Self::Text(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
            _ => Vec::new(),
        }
    }
}

/// A number as programs write it, or as people do in much of Europe: with a comma before its fraction.
fn decimal(text: &str) -> Option<f64> {
    text.parse().ok().or_else(|| text.replacen(',', ".", 1).parse().ok())
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LooseVisitor;

        impl<'de> Visitor<'de> for LooseVisitor {
            type Value = Loose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose::Text(text.to_owned()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Loose, E> {
                Ok(Loose::Number(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Loose, E> {
                Ok(Loose::Whole(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Loose, E> {
                Ok(Loose::Number(number as f64))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Loose, E> {
                Ok(if value { Loose::Yes } else { Loose::Nothing })
            }

            fn visit_unit<E>(self) -> Result<Loose, E> {
                Ok(Loose::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Loose, A::Error> {
                let mut list = Vec::new();
                while list.len() < MOST_ITEMS
                    && let Some(item) = items.next_element()?
                {
                    list.push(item);
                }
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Loose, A::Error> {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Loose::Nothing)
            }
        }

        deserializer.deserialize_any(LooseVisitor)
    }
}

/// An object of a known shape; anything else is the empty one.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct LooseObject<T>(pub(crate) T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for LooseObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(std::marker::PhantomData<T>);

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

        deserializer.deserialize_any(ObjectVisitor(std::marker::PhantomData)).map(Self)
    }
}
