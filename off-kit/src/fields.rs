//! Validates requests field by field, so that a response lists all errors at once.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;
use std::{fmt, marker::PhantomData};
use utoipa::ToSchema;

/// An invalid field of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The path of the field in the body.
    #[schema(example = "devices[0].mac_address")]
    pub field: String,
    /// What is wrong with it.
    #[schema(example = "a MAC address has six pairs of hex digits")]
    pub message: String,
}

impl FieldError {
    /// The error `message` for the field with the path `field`.
    pub fn new(field: impl Into<String>, message: &dyn ToString) -> Self {
        Self { field: field.into(), message: message.to_string() }
    }
}

/// A field of any type, not validated yet. With `#[serde(default)]` a missing field does not fail the whole body.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Raw(Value);

/// A `T` from a JSON object only. A derived `Deserialize` alone would also accept an array with the values of the
/// fields.
#[derive(Debug, Clone, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

/// Collects errors while a request is validated.
#[derive(Debug, Default)]
pub struct Fields(Vec<FieldError>);

impl Fields {
    /// The value; or `None`, and records the error of `field`.
    pub fn check<T, E: ToString>(&mut self, field: impl Into<String>, value: Result<T, E>) -> Option<T> {
        value.map_err(|error| self.0.push(FieldError::new(field, &error))).ok()
    }

    /// The text in `field`.
    pub fn text<'a>(&mut self, field: &str, raw: &'a Raw) -> Option<&'a str> {
        self.check(field, raw.0.as_str().ok_or(if raw.0.is_null() { "it is missing" } else { "expected text" }))
    }

    /// The whole number in `field`.
    pub fn integer(&mut self, field: &str, raw: &Raw) -> Option<i64> {
        self.check(
            field,
            raw.0.as_i64().ok_or(if raw.0.is_null() { "it is missing" } else { "expected a whole number" }),
        )
    }

    /// The value in `field`, of any type.
    pub fn value<T: DeserializeOwned>(&mut self, field: &str, raw: &Raw) -> Option<T> {
        if raw.0.is_null() {
            return self.check(field, Err("it is missing"));
        }
        self.check(field, T::deserialize(&raw.0))
    }

    /// The value in `field`, of any type; `Some(None)` if it is missing.
    pub fn optional<T: DeserializeOwned>(&mut self, field: &str, raw: &Raw) -> Option<Option<T>> {
        if raw.0.is_null() { Some(None) } else { self.value(field, raw).map(Some) }
    }

    /// `value` if no field was invalid.
    ///
    /// # Errors
    /// All recorded errors.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<FieldError>> {
        value.filter(|_| self.0.is_empty()).ok_or(self.0)
    }
}
