//! Names of sources on the command line and in settings.

use std::{convert::Infallible, fmt, path::PathBuf, str::FromStr};
use url::Url;

/// A source of the importer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceName {
    /// A whole export, or the sample.
    Export(Export),
    /// The HTTP API.
    Api,
    /// The changes of the last days.
    Deltas,
    /// Prices of products, in a file of their own.
    Prices,
}

/// An export of Open Food Facts, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Export {
    /// The built-in sample.
    Sample,
    /// On standard input.
    Input,
    /// In a file.
    File(PathBuf),
    /// At an HTTP or HTTPS URL.
    Address(Url),
}

impl FromStr for SourceName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "api" => Self::Api,
            "deltas" => Self::Deltas,
            "prices" => Self::Prices,
            _ => Self::Export(text.parse()?),
        })
    }
}

impl FromStr for Export {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "sample" => Self::Sample,
            "-" => Self::Input,
            _ => match Url::parse(text) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => Self::Address(url),
                _ => Self::File(text.into()),
            },
        })
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Export(export) => export.fmt(f),
            Self::Api => f.write_str("the Open Food Facts API"),
            Self::Deltas => f.write_str("the changes of the last days"),
            Self::Prices => f.write_str("the prices of Open Prices"),
        }
    }
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sample => f.write_str("the built-in sample"),
            Self::Input => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
            Self::Address(url) => url.fmt(f),
        }
    }
}
