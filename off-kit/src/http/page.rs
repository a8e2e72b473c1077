//! The pages of lists.

use super::{CommonCode, Problem};

/// How many entries a page has.
#[derive(Debug, Clone, Copy)]
pub struct PageSize {
    /// If the request does not say.
    pub default: u32,
    /// At most.
    pub max: u32,
}

impl PageSize {
    /// The number of entries of the requested page. 400 if it is zero or above the maximum.
    pub fn limit(self, requested: Option<u32>) -> Result<u32, Problem> {
        let limit = requested.unwrap_or(self.default);
        if (1..=self.max).contains(&limit) {
            Ok(limit)
        } else {
            Err(Problem::new(CommonCode::InvalidQuery, format!("limit: a number from 1 to {}", self.max)))
        }
    }
}

/// Cuts `entries` to a page of `limit`. Returns the cursor of its last entry if there are more, so query one entry more
/// than a page has.
pub fn cut_page<T, C>(entries: &mut Vec<T>, limit: u32, cursor: impl FnOnce(&T) -> C) -> Option<C> {
    let has_more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    entries.last().filter(|_| has_more).map(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_cursor_if_there_are_more_entries() {
        for (entries, page, next) in [(0, 0, None), (2, 2, None), (3, 3, None), (4, 3, Some(3)), (5, 3, Some(3))] {
            let mut numbers: Vec<i32> = (1..=entries).collect();
            assert_eq!(cut_page(&mut numbers, 3, |number| *number), next, "{entries}");
            assert_eq!(numbers.len(), page, "{entries}");
        }
    }

    #[test]
    fn a_limit_is_between_one_and_the_maximum() {
        let size = PageSize { default: 50, max: 100 };
        for (requested, limit) in [(None, Some(50)), (Some(1), Some(1)), (Some(100), Some(100)), (Some(0), None)] {
            assert_eq!(size.limit(requested).ok(), limit);
        }
        assert!(size.limit(Some(101)).is_err());
    }
}
