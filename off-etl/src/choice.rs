//! Which records of a source are imported.

use crate::{filter::Filter, profile::Profile};

/// Which records become products.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct Choice {
    /// Which state tags a record needs: `default` five, `strict` also en:checked, which almost no product has; `all`
    /// none.
    #[arg(long, env = "ETL_PROFILE", default_value = "default", value_enum)]
    pub profile: Profile,
    /// Which records are not filtered out.
    #[command(flatten)]
    pub filter: Filter,
    /// Store line, reason and barcode of each rejected record in the table catalog.rejects.
    #[arg(long, env = "ETL_KEEP_REJECTS")]
    pub keep_rejects: bool,
}

impl Choice {
    /// The profile and the filter as JSON, without `keep_rejects`. An interrupted import is found by this text, so its
    /// format must not change.
    pub(crate) fn stored_rules(&self) -> String {
        let Filter { country, category, brand, limit } = &self.filter;
        let profile = self.profile.name();
        serde_json::json!({"profile": profile, "country": country, "category": category, "brand": brand, "limit": limit})
            .to_string()
    }
}

impl From<Profile> for Choice {
    /// All records that meet `profile`, without a filter.
    fn from(profile: Profile) -> Self {
        Self { profile, filter: Filter::default(), keep_rejects: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_of_the_rules_is_stable() {
        let nothing = r#"{"brand":null,"category":null,"country":null,"limit":null,"profile":"strict"}"#;
        assert_eq!(Choice::from(Profile::Strict).stored_rules(), nothing);
        let filter = Filter {
            country: Some("en:france".to_owned()),
            category: None,
            brand: Some("so \"good\"".to_owned()),
            limit: Some(7),
        };
        let choice = Choice { profile: Profile::All, filter, keep_rejects: true };
        let all = r#"{"brand":"so \"good\"","category":null,"country":"en:france","limit":7,"profile":"all"}"#;
        assert_eq!(choice.stored_rules(), all);
    }
}
