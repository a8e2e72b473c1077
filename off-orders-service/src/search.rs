//! What people search the catalog for.

use off_events::InvalidValue;
use sqlx::PgPool;

use crate::{
    domain::Product,
    store::{self, Terms},
};

/// Words of a search; more are left out.
const MAX_WORDS: usize = 8;

/// Letters of a word; more are left out. No word of a product is longer.
const MAX_LETTERS: usize = 40;

/// The longest name of a brand or category, in bytes. Postgres has no longer lexemes.
const MAX_NAME_BYTES: usize = 1000;

/// From this length on, the last word may go on: somebody is still typing. A shorter beginning has too many words.
const MIN_PREFIX: usize = 3;

/// What is searched for.
#[derive(Debug, Default)]
pub(crate) struct Search {
    pub(crate) words: Vec<String>,
    /// The exact name of a brand.
    pub(crate) brand: Option<String>,
    /// The exact tag of a category.
    pub(crate) category: Option<String>,
}

/// Products that were found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) products: Vec<Product>,
    /// The words that were searched instead, because no product has those of the search.
    pub(crate) corrected: Option<String>,
}

impl Search {
    pub(crate) fn new(text: &str, brand: Option<&str>, category: Option<&str>) -> Result<Self, InvalidValue> {
        let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
        let words = words.take(MAX_WORDS).map(|word| word.chars().take(MAX_LETTERS).collect::<String>().to_lowercase());
        let exact = |text: Option<&str>| match text.map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) if text.len() > MAX_NAME_BYTES => Err(InvalidValue("no name is so long")),
            Some(text) if text.contains(['\\', '\0']) => Err(InvalidValue("it has a character that no name has")),
            text => Ok(text.map(ToOwned::to_owned)),
        };
        Ok(Self {
            words: words.collect(),
            brand: exact(brand)?.map(|brand| brand.to_lowercase()),
            category: exact(category)?,
        })
    }

    /// Whether there is nothing to search for.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty() && self.brand.is_none() && self.category.is_none()
    }

    /// The search in the language of the database: `red & lent:*`, and exact lexemes.
    fn terms(&self) -> Terms {
        let last = self.words.len().saturating_sub(1);
        let term = |(index, word): (usize, &String)| {
            if index == last && word.chars().count() >= MIN_PREFIX { format!("{word}:*") } else { word.clone() }
        };
        let words: Vec<String> = self.words.iter().enumerate().map(term).collect();
        let quoted = |kind: &str, value: &String| format!("'={kind}:{}'", value.replace('\'', "''"));
        let brand = self.brand.as_ref().map(|brand| quoted("brand", brand));
        let category = self.category.as_ref().map(|category| quoted("category", category));
        let exact: Vec<String> = brand.into_iter().chain(category).collect();
        Terms { words: words.join(" & "), exact: exact.join(" & ") }
    }
}

/// The products that a search finds, the best first. If no product has its words, the most similar words that products have
/// are searched instead.
pub(crate) async fn find(db: &PgPool, search: &Search, limit: i64, offset: i64) -> sqlx::Result<Found> {
    let products = store::search_products(db, &search.terms(), limit, offset).await?;
    if !products.is_empty() || search.words.is_empty() || offset > 0 {
        return Ok(Found { products, corrected: None });
    }
    let words = store::correct_words(db, &search.words).await?;
    if words == search.words {
        return Ok(Found { products, corrected: None });
    }
    let corrected = words.join(" ");
    let search = Search { words, brand: search.brand.clone(), category: search.category.clone() };
    let products = store::search_products(db, &search.terms(), limit, offset).await?;
    Ok(Found { corrected: (!products.is_empty()).then_some(corrected), products })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terms(text: &str) -> String {
        Search::new(text, None, None).unwrap().terms().words
    }

    #[test]
    fn the_last_word_may_go_on() {
        assert_eq!(terms("Red  LENT"), "red & lent:*");
        assert_eq!(terms("Coca-Cola (can)"), "coca & cola & can:*");
        assert_eq!(terms("de"), "de");
        assert_eq!(terms("Crème brûlée"), "crème & brûlée:*");
        assert_eq!(terms("'; DROP TABLE x; --"), "drop & table & x");
        assert_eq!(terms(" !? "), "");
    }

    #[test]
    fn brands_and_categories_are_exact() {
        let search = Search::new("", Some("Rosie's "), Some("en:teas")).unwrap();
        assert_eq!(search.terms().exact, "'=brand:rosie''s' & '=category:en:teas'");
        assert!(Search::new("", Some("a\\b"), None).is_err() && Search::new("", None, Some("\0")).is_err());
        assert!(Search::new("", Some(&"x".repeat(1001)), None).is_err());
        assert!(Search::new("", Some(" "), None).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_language_of_the_database(text in "\\PC{0,200}") {
            let terms = terms(&text);
            prop_assert!(!terms.contains(['\'', '!', '(', '|', '<', '\\']));
        }
    }
}
