//! Which letters a person wants by e-mail.

use super::LetterKind;
use off_kit::fields::{FieldError, Fields, Raw};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which letters a person wants by e-mail. All letters are in their list in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Preferences {
    /// The kinds that are not sent by e-mail.
    pub(crate) not_mailed: Vec<LetterKind>,
}

/// New preferences, not validated yet.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct NewPreferences {
    /// The kinds that are not sent by e-mail.
    #[serde(default)]
    #[schema(value_type = Vec<LetterKind>, max_items = 6)]
    not_mailed: Raw,
}

impl NewPreferences {
    /// The preferences, each kind once, or the errors of the fields.
    pub(crate) fn validate(&self) -> Result<Preferences, Vec<FieldError>> {
        let mut fields = Fields::default();
        let named: Option<Vec<LetterKind>> = fields.value("not_mailed", &self.not_mailed);
        let once = |named: Vec<LetterKind>| LetterKind::ALL.into_iter().filter(|kind| named.contains(kind)).collect();
        fields.finish(named.map(|named| Preferences { not_mailed: once(named) }))
    }
}
