//! The front photos of a record.

use crate::lenient::{Lenient, LenientObject};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// The revision numbers of the selected front photos.
#[derive(Debug, Clone, Default)]
pub(crate) struct Images {
    /// By language.
    pub(crate) front: BTreeMap<String, Lenient>,
    /// The front photo of an old record, from before photos had a language.
    pub(crate) front_without_language: Lenient,
}

impl Images {
    /// Stores the revision of a photo if its name is that of a front photo.
    pub(crate) fn set_revision(&mut self, name: &str, rev: Lenient) {
        if let Some(language) = name.strip_prefix("front_") {
            self.front.insert(language.to_owned(), rev);
        } else if name == "front" {
            self.front_without_language = rev;
        }
    }
}

/// A photo in a record.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Image {
    rev: Lenient,
}

/// The selected photos in the format of newer records, grouped by purpose.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Selected {
    front: LenientObject<BTreeMap<String, LenientObject<Image>>>,
}

impl<'de> Deserialize<'de> for Images {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ImagesVisitor)
    }
}

struct ImagesVisitor;

impl<'de> Visitor<'de> for ImagesVisitor {
    type Value = Images;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("photos by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut photos: A) -> Result<Images, A::Error> {
        let mut images = Images::default();
        while let Some(name) = photos.next_key::<Cow<'_, str>>()? {
            if name.starts_with("front") {
                let rev = photos.next_value::<LenientObject<Image>>()?.0.rev;
                images.set_revision(&name, rev);
            } else if name == "selected" {
                let front = photos.next_value::<LenientObject<Selected>>()?.0.front.0;
                images.front.extend(front.into_iter().map(|(language, image)| (language, image.0.rev)));
            } else {
                photos.next_value::<IgnoredAny>()?;
            }
        }
        Ok(images)
    }
}
