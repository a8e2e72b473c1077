//! What a person changes about themselves.

use super::{check, user::name};
use off_events::InvalidValue;
use off_kit::{
    email::Email,
    fields::{FieldError, Fields, Raw},
};
use serde::Deserialize;
use std::fmt;
use utoipa::ToSchema;

/// The request body that replaces the profile of a person.
#[derive(Clone, Default, Deserialize, ToSchema)]
pub(crate) struct NewProfile {
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 100, example = "Ada")]
    first_name: Raw,
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 100, example = "Example")]
    last_name: Raw,
    /// The person signs in with it.
    #[serde(default)]
    #[schema(value_type = String, required, max_length = 254, example = "ada@example.org")]
    email: Raw,
    /// With the country code. Without it, or if it is null, the person has none.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "+4930123456")]
    phone: Option<Raw>,
}

/// Omits the fields, which are personal.
impl fmt::Debug for NewProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewProfile").finish_non_exhaustive()
    }
}

/// A valid profile.
pub(crate) struct Profile {
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) email: Email,
    pub(crate) phone: Option<String>,
}

/// A phone number in the form of E.164: `+`, and 7 to 15 digits that start with the country code. Spaces, dots, hyphens
/// and parentheses between them are left out.
fn phone(text: &str) -> Result<String, InvalidValue> {
    let number: String = text.trim().chars().filter(|c| !matches!(c, ' ' | '.' | '-' | '(' | ')')).collect();
    let is_valid = number.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
    });
    if is_valid { Ok(number) } else { Err(InvalidValue("a phone number looks like +4930123456")) }
}

impl NewProfile {
    /// Validates the request. Returns the errors of all invalid fields.
    pub(crate) fn check(self) -> Result<Profile, Vec<FieldError>> {
        let mut fields = Fields::default();
        let first_name = check(&mut fields, "first_name", &self.first_name, name);
        let last_name = check(&mut fields, "last_name", &self.last_name, name);
        let email = check(&mut fields, "email", &self.email, Email::parse);
        // An invalid number has recorded its error, so `None` is not taken for "no number".
        let phone = self.phone.and_then(|raw| check(&mut fields, "phone", &raw, phone));
        let person = first_name.zip(last_name).zip(email);
        fields.finish(person.map(|((first_name, last_name), email)| Profile { first_name, last_name, email, phone }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check_phone(phone: Value) -> Result<Option<String>, Vec<String>> {
        let body = json!({"first_name": "Ada", "last_name": "Example", "email": "ada@example.org", "phone": phone});
        let new: NewProfile = serde_json::from_value(body).unwrap();
        let checked = new.check().map(|profile| profile.phone);
        checked.map_err(|errors| errors.into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn a_phone_number_has_a_country_code_or_is_absent() {
        for written in ["+4930123456", " +49 (30) 123-456 ", "+49.30.123.456"] {
            assert_eq!(check_phone(json!(written)), Ok(Some("+4930123456".to_owned())), "{written}");
        }
        assert_eq!(check_phone(Value::Null), Ok(None));
        for wrong in [
            json!("030123456"),
            json!("+0301234567"),
            json!("+123456"),
            json!("+1234567890123456"),
            json!("+49301234x"),
        ] {
            assert_eq!(check_phone(wrong.clone()), Err(vec!["phone".to_owned()]), "{wrong}");
        }
        for wrong in [json!(4_930_123_456_i64), json!(""), json!("+"), json!("+४९३०१२३४५६")] {
            assert_eq!(check_phone(wrong.clone()), Err(vec!["phone".to_owned()]), "{wrong}");
        }
    }
}
