//! The levels of nutrients.

use crate::{lenient::Lenient, record::Record};

/// The levels of fat, saturated fat, sugars and salt, from the record's levels or else from its tags.
pub(super) fn levels(record: &Record) -> [Option<String>; 4] {
    let levels = &record.nutrient_levels;
    let stated = [&levels.fat, &levels.saturated_fat, &levels.sugars, &levels.salt].map(level);
    if stated.iter().any(Option::is_some) || record.nutrient_levels_tags == Lenient::Nothing {
        return stated;
    }
    let tags = record.nutrient_levels_tags.texts();
    ["fat", "saturated-fat", "sugars", "salt"].map(|nutrient| {
        let prefix = format!("en:{nutrient}-in-");
        tags.iter()
            .find_map(|tag| level(&Lenient::Text(tag.strip_prefix(&prefix)?.strip_suffix("-quantity")?.to_owned())))
    })
}

/// The level, if it is a known one.
fn level(value: &Lenient) -> Option<String> {
    value.text().filter(|level| matches!(level.as_str(), "low" | "moderate" | "high"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_from_tags_if_there_is_nothing_else() {
        let tags = br#"{"nutrient_levels_tags": ["en:fat-in-low-quantity", "en:saturated-fat-in-high-quantity"]}"#;
        let levels = levels(&Record::read(tags).unwrap());
        assert_eq!(levels, [Some("low".to_owned()), Some("high".to_owned()), None, None]);
    }
}
