//! What somebody wants of a source.

use crate::{filter::Filter, product::Profile};

/// Which records become products.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct Choice {
    /// Which state tags a record needs: `strict` is the original list with en:checked, which hardly a product has; `all` is none.
    #[arg(long, env = "ETL_PROFILE", default_value = "default", value_enum)]
    pub profile: Profile,
    #[command(flatten)]
    pub filter: Filter,
    /// Keep line, reason and barcode of each rejected record in the table catalog.rejects.
    #[arg(long, env = "ETL_KEEP_REJECTS")]
    pub keep_rejects: bool,
}

impl Choice {
    /// Which records become products, in words that are the same for the same choice, whether rejects are kept or not.
    pub(crate) fn rules(&self) -> String {
        format!("{:?}", Self { keep_rejects: false, ..self.clone() })
    }
}

impl From<Profile> for Choice {
    /// Everything that keeps the rules of `profile`.
    fn from(profile: Profile) -> Self {
        Self { profile, filter: Filter::default(), keep_rejects: false }
    }
}
