//! The 10,000 most frequent passwords of at least 8 characters.
//!
//! `common.txt` has them in the order of their frequency, one per line. They are the first 10,000 of this length in the
//! list of passwords of the crate zxcvbn 3.1.1 (`src/frequency_lists.rs`), Copyright (c) 2016 Joshua Holmer, MIT; its
//! license is in `common.LICENSE`.

use std::{collections::HashSet, sync::LazyLock};

static COMMON: LazyLock<HashSet<&'static str>> = LazyLock::new(|| include_str!("common.txt").lines().collect());

/// Whether `password` is one of the 10,000 that everybody tries first, in any mix of upper and lower case.
pub fn is_common(password: &str) -> bool {
    COMMON.contains(password) || COMMON.contains(password.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_ten_thousand_passwords_that_would_otherwise_be_long_enough() {
        assert_eq!(COMMON.len(), 10_000);
        assert!(COMMON.iter().all(|password| password.chars().count() >= 8));
    }

    #[test]
    fn frequent_passwords_are_common_in_any_case() {
        for password in ["password", "Password", "12345678", "QWERTYUIOP"] {
            assert!(is_common(password), "{password}");
        }
        for password in ["correct horse battery", "", "a sentence of my own"] {
            assert!(!is_common(password), "{password}");
        }
    }
}
