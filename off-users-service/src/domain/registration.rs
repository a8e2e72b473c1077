//! Registration of a person with their devices.

use super::{NewDevice, check, user::name};
use off_events::{InvalidValue, MacAddress};
use off_kit::{
    email::Email,
    fields::{FieldError, Fields, Object, Raw},
    password,
};
use serde::Deserialize;
use std::{collections::HashSet, fmt};
use utoipa::ToSchema;

/// The request body of a registration.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(crate) struct NewRegistration {
    #[serde(default)]
    #[schema(value_type = NewUser, required)]
    user: Object<NewUser>,
    /// 1 to 10 devices.
    #[serde(default)]
    #[schema(value_type = Vec<NewDevice>, required, min_items = 1, max_items = 10)]
    devices: Vec<Object<NewDevice>>,
}

#[derive(Clone, Default, Deserialize, ToSchema)]
struct NewUser {
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 100, example = "Ada")]
    first_name: Raw,
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 100, example = "Example")]
    last_name: Raw,
    #[serde(default)]
    #[schema(value_type = String, required, max_length = 254, example = "ada@example.org")]
    email: Raw,
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 8, max_length = 200, format = "password",
        example = "correct horse battery")]
    password: Raw,
}

/// Omits the fields, which are personal or secret.
impl fmt::Debug for NewUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewUser").finish_non_exhaustive()
    }
}

/// A valid registration.
pub(crate) struct Registration {
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) email: Email,
    pub(crate) password: String,
    pub(crate) mac_addresses: Vec<MacAddress>,
}

impl NewRegistration {
    /// Validates the request. Returns the errors of all invalid fields.
    pub(crate) fn check(self) -> Result<Registration, Vec<FieldError>> {
        let mut fields = Fields::default();
        let Object(user) = &self.user;
        let first_name = check(&mut fields, "user.first_name", &user.first_name, name);
        let last_name = check(&mut fields, "user.last_name", &user.last_name, name);
        let email = check(&mut fields, "user.email", &user.email, Email::parse);
        let password = check(&mut fields, "user.password", &user.password, password::parse);
        let count = match self.devices.len() {
            1..=10 => Ok(()),
            _ => Err(InvalidValue("a person registers 1 to 10 devices")),
        };
        fields.check("devices", count);
        let mut mac_addresses = Vec::with_capacity(self.devices.len().min(10));
        let mut seen = HashSet::new();
        for (index, Object(device)) in self.devices.iter().take(10).enumerate() {
            let field = format!("devices[{index}].mac_address");
            let address = check(&mut fields, &field, &device.mac_address, |text| {
                let address = text.parse::<MacAddress>()?;
                let duplicate = InvalidValue("the same device is listed twice");
                if seen.insert(address.clone()) { Ok(address) } else { Err(duplicate) }
            });
            mac_addresses.extend(address);
        }
        let person = first_name.zip(last_name).zip(email).zip(password);
        fields.finish(person.map(|(((first_name, last_name), email), password)| Registration {
            first_name,
            last_name,
            email,
            password,
            mac_addresses,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn registration(first_name: &str, email: &str, password: &str, devices: &[&str]) -> NewRegistration {
        let devices: Vec<_> = devices.iter().map(|address| serde_json::json!({"mac_address": address})).collect();
        let user = serde_json::json!(
            {"first_name": first_name, "last_name": "Example", "email": email, "password": password}
        );
        serde_json::from_value(serde_json::json!({"user": user, "devices": devices})).unwrap()
    }

    fn invalid_fields(new: NewRegistration) -> Vec<String> {
        new.check().err().unwrap_or_default().into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn all_invalid_fields_are_reported_together() {
        let new = registration("\0", "nobody", "short", &["02:00:00:00:00:01", "what", "02-00-00-00-00-01"]);
        assert_eq!(
            invalid_fields(new),
            ["user.first_name", "user.email", "user.password", "devices[1].mac_address", "devices[2].mac_address"]
        );
        assert_eq!(invalid_fields(registration("Ada", "ada@example.org", "long enough", &[])), ["devices"]);
        let too_many = ["02:00:00:00:00:01"; 11];
        assert_eq!(invalid_fields(registration("Ada", "ada@example.org", "long enough", &too_many))[0], "devices");
    }

    proptest! {
        #[test]
        fn a_valid_registration_can_be_stored(first in "\\PC{0,120}|[\\x00-\\x1f]{1,3}", email in "\\PC{0,40}|[a-z]{1,8}@[a-z]{1,8}\\.org") {
            if let Ok(registration) = registration(&first, &email, "long enough", &["02:00:00:00:00:01"]).check() {
                prop_assert!(!registration.first_name.contains('\0') && !registration.email.as_str().contains('\0'));
                prop_assert!((1..=100).contains(&registration.first_name.chars().count()));
            }
        }
    }
}
