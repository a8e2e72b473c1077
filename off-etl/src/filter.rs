//! Filters that select records.

use crate::{lenient::Lenient, record::Record};
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Conditions that a record has to meet; an absent field matches every record.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct Filter {
    /// Only products sold in this country, such as france or en:france.
    #[arg(long, env = "ETL_COUNTRY", value_name = "COUNTRY")]
    pub country: Option<String>,
    /// Only products of this category, such as breakfast-cereals or en:breakfast-cereals.
    #[arg(long, env = "ETL_CATEGORY", value_name = "CATEGORY")]
    pub category: Option<String>,
    /// Only products of this brand, such as barilla.
    #[arg(long, env = "ETL_BRAND", value_name = "BRAND")]
    pub brand: Option<String>,
    /// Stop after this many products.
    #[arg(long, env = "ETL_LIMIT", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

impl Filter {
    /// Whether `record` meets all conditions. The limit is not checked here: the caller counts the products.
    pub(crate) fn matches(&self, record: &Record) -> bool {
        has(self.country.as_deref(), &record.countries_tags)
            && has(self.category.as_deref(), &record.categories_tags)
            && has(self.brand.as_deref(), record.brand_names())
    }
}

/// Whether `tags` has the wanted tag; true if none is wanted.
fn has(wanted: Option<&str>, tags: &Lenient) -> bool {
    let Some(wanted) = wanted else { return true };
    let wanted = tag(wanted);
    tags.texts().iter().any(|found| is_same(&tag(found), &wanted))
}

/// Makes a tag of a name as Open Food Facts does: without accents, and with hyphens in place of everything but letters
/// and digits. Keeps a language prefix.
fn tag(name: &str) -> String {
    let plain = name.nfd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase);
    let hyphened: String = plain.map(|c| if c.is_alphanumeric() || c == ':' { c } else { '-' }).collect();
    hyphened.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Compares two tags; the language of `found` counts only if `wanted` has one.
fn is_same(found: &str, wanted: &str) -> bool {
    found == wanted || found.split_once(':').is_some_and(|(language, name)| language.len() == 2 && name == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_filtered_by_country_category_and_brand() {
        let record = Record::read(
            br#"{"countries_tags": ["en:france", "en:united-kingdom"], "categories_tags": ["en:cereals"], "brands_tags": ["xx:so-good", "creme-co"]}"#,
        )
        .unwrap();
        let wanted = |country: &str, category: &str, brand: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Filter { country: some(country), category: some(category), brand: some(brand), limit: None }
                .matches(&record)
        };
        assert!(wanted("", "", "") && wanted("france", "", "") && wanted("en:france", "cereals", "So Good"));
        assert!(wanted("United Kingdom", "", "") && wanted("", "", "Crème & Co."));
        assert!(!wanted("fr:france", "", "") && !wanted("spain", "", "") && !wanted("france", "soups", ""));
        assert!(!wanted("", "", "barilla"));
    }
}
