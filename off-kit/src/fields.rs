//! Validates requests field by field, so that a response lists all errors at once.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value, map::Entry};
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

/// A field of any type, not validated yet. With `#[serde(default)]` a missing field does not fail the whole body. An object
/// inside that has a field twice does: other readers of the body could take another one of the two.
#[derive(Debug, Clone, Default)]
pub struct Raw(Value);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Raw, A::Error> {
        let mut values = Vec::new();
        while let Some(Raw(value)) = elements.next_element()? {
            values.push(value);
        }
        Ok(Raw(values.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut fields = Map::new();
        while let Some((name, Raw(value))) = entries.next_entry::<String, _>()? {
            match fields.entry(name) {
                Entry::Vacant(vacant) => drop(vacant.insert(value)),
                Entry::Occupied(occupied) => {
                    return Err(de::Error::custom(format_args!("duplicate field `{}`", occupied.key())));
                }
            }
        }
        Ok(Raw(fields.into()))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_that_is_there_twice_is_refused_at_any_depth() {
        let raw = |text| serde_json::from_str::<Raw>(text).map(|Raw(value)| value);
        let text = r#"{"a": [1, -2, 0.5, "x", null, true, {"b": {}}], "b": 1}"#;
        assert_eq!(raw(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        for twice in [r#"{"a": 1, "a": 1}"#, r#"[{"a": {"b": 1, "c": 2, "b": 3}}]"#] {
            assert!(raw(twice).unwrap_err().to_string().starts_with("duplicate field"), "{twice}");
        }
    }

    #[test]
    fn a_value_of_any_type_is_checked() {
        let mut fields = Fields::default();
        assert_eq!(fields.value("small", &Raw(json!(5))), Some(5_u8));
        assert_eq!(fields.optional("none", &Raw::default()), Some(None::<u8>));
        assert_eq!(fields.optional("some", &Raw(json!(6))), Some(Some(6_u8)));
        assert_eq!(fields.value::<u8>("missing", &Raw::default()), None);
        assert_eq!(fields.value::<u8>("large", &Raw(json!(256))), None);
        assert_eq!(fields.optional::<u8>("text", &Raw(json!("6"))), None);
        let errors = fields.finish(Some(())).unwrap_err();
        let wrong: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(wrong, ["missing", "large", "text"]);
        assert_eq!(errors[0].message, "it is missing");
    }
}
