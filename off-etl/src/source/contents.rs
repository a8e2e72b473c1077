//! What an export holds.

/// What the records of an export are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Products of Open Food Facts.
    Products,
    /// Prices of Open Prices.
    Prices,
}

impl Contents {
    /// The project that exports them.
    pub(super) fn project(self) -> &'static str {
        match self {
            Self::Products => "Open Food Facts",
            Self::Prices => "Open Prices",
        }
    }

    /// The formats that are read.
    pub(super) fn formats(self) -> &'static str {
        match self {
            Self::Products => {
                "JSON lines, a tab-separated table with a column `code`, or Parquet; the first two may be compressed \
                 with gzip"
            }
            Self::Prices => "JSON lines, which may be compressed with gzip, or Parquet",
        }
    }

    /// How to read a pipe or a device with this name, which is no file.
    pub(super) fn hint_for_pipe(self, name: &str) -> String {
        match self {
            Self::Products => format!("`-` reads standard input, as in `off-etl - < {name}`"),
            Self::Prices => "store it in a file first".to_owned(),
        }
    }

    /// What damage of their export means for the catalog.
    pub(crate) fn effect_of_damage(self) -> &'static str {
        match self {
            Self::Products => "The records before the damage are kept",
            // Medians of a part would replace those of a whole export.
            Self::Prices => "No price was changed",
        }
    }
}
