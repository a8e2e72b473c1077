//! Profiles: which state tags a record needs.

use clap::ValueEnum;

/// Which state tags a record needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Name, brands, quantity, front photo and nutrition facts complete, and `checked`, which hardly any product is.
    Strict,
    /// The same without `checked`.
    Default,
    /// No tags.
    All,
}

impl Profile {
    /// Its name in settings and in stored rules.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Default => "default",
            Self::All => "all",
        }
    }

    /// The state tags that a record needs to become a product.
    pub(crate) fn tags(self) -> &'static [&'static str] {
        const TAGS: [&str; 6] = [
            "en:product-name-completed",
            "en:brands-completed",
            "en:quantity-completed",
            "en:front-photo-selected",
            "en:nutrition-facts-completed",
            "en:checked",
        ];
        match self {
            Self::Strict => &TAGS,
            Self::Default => &TAGS[..5],
            Self::All => &[],
        }
    }
}
