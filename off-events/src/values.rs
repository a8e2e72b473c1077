//! Value types that are validated when they are parsed, and need no check afterwards.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// Why a text or number is not a valid value. The text is shown to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(pub &'static str);

/// A product's barcode in normal form: leading zeros removed, then padded with zeros to 8 or 13 digits. Longer barcodes
/// are not padded.
///
/// Open Food Facts uses the same rule. It makes the UPC-12 and the EAN-13 of a product the same barcode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "3017620422003", pattern = "^[0-9]{8,24}$")]
pub struct Barcode(String);

impl Barcode {
    /// The maximum length (GS1 codes have up to 14 digits; the catalog's in-store codes up to 24).
    pub const MAX_DIGITS: usize = 24;

    /// The text in normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Barcode {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidValue("a barcode must consist of digits"));
        }
        let digits = text.trim_start_matches('0');
        match digits.len() {
            0 => Err(InvalidValue("a barcode must not be empty or all zeros")),
            1..=8 => Ok(Self(format!("{digits:0>8}"))),
            9..=13 => Ok(Self(format!("{digits:0>13}"))),
            14..=Self::MAX_DIGITS => Ok(Self(digits.to_owned())),
            _ => Err(InvalidValue("a barcode must have at most 24 digits")),
        }
    }
}

impl TryFrom<String> for Barcode {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<Barcode> for String {
    fn from(barcode: Barcode) -> Self {
        barcode.0
    }
}

impl fmt::Display for Barcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number of units of a product, 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "i64", into = "i32")]
#[schema(value_type = i32, minimum = 1, maximum = 1000, example = 3)]
pub struct Quantity(i32);

impl Quantity {
    /// The maximum number of units.
    pub const MAX: i32 = 1000;

    /// The number of units.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = InvalidValue;

    fn try_from(number: i64) -> Result<Self, InvalidValue> {
        match i32::try_from(number) {
            Ok(units @ 1..=Self::MAX) => Ok(Self(units)),
            _ => Err(InvalidValue("a quantity must be a whole number from 1 to 1000")),
        }
    }
}

impl From<Quantity> for i32 {
    fn from(quantity: Quantity) -> Self {
        quantity.0
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A device's MAC address in normal form: six lower-case pairs, joined by colons.
///
/// The parser accepts colons, hyphens, Cisco's dots and hex digits without separators. It refuses addresses that no
/// device has: zero, and those of groups, like the broadcast address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "02:0f:f0:12:34:56", pattern = "^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")]
pub struct MacAddress(String);

/// The bit of the first octet that marks a multicast or broadcast address.
const GROUP_BIT: u8 = 1;

impl MacAddress {
    /// The text in normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MacAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        const INVALID_FORMAT: InvalidValue =
            InvalidValue("a MAC address has six pairs of hex digits, like 02:0f:f0:12:34:56");
        let (separator, group) = match text.len() {
            12 => (None, 12),
            14 => (Some('.'), 4),
            17 => (text.chars().nth(2).filter(|&c| c == ':' || c == '-'), 2),
            _ => return Err(INVALID_FORMAT),
        };
        let groups: Vec<&str> = separator.map_or_else(|| vec![text], |separator| text.split(separator).collect());
        if groups.iter().any(|digits| digits.len() != group || !digits.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(INVALID_FORMAT);
        }
        let octets = u64::from_str_radix(&groups.concat(), 16).map_err(|_| INVALID_FORMAT)?.to_be_bytes();
        let [_, _, first, ..] = octets;
        if first & GROUP_BIT != 0 || octets == [0; 8] {
            return Err(InvalidValue("a device has no such MAC address: it is zero, or that of a group of devices"));
        }
        let pairs: Vec<String> = octets.iter().skip(2).map(|octet| format!("{octet:02x}")).collect();
        Ok(Self(pairs.join(":")))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_upc_and_its_ean_are_the_same_barcode() {
        let upc: Barcode = "036000291452".parse().unwrap();
        let ean: Barcode = "0036000291452".parse().unwrap();
        assert_eq!(upc, ean);
        assert_eq!(upc.as_str(), "0036000291452");
        assert_eq!("96385074".parse::<Barcode>().unwrap().as_str(), "96385074");
    }

    #[test]
    fn invalid_barcodes_are_rejected() {
        for text in ["", "0", "0000000000000", "30176x", "-1", "३०१७", "1234567890123456789012345"] {
            assert!(text.parse::<Barcode>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn a_mac_address_is_parsed_in_every_common_format() {
        for text in ["02:0F:F0:12:34:56", "02-0f-f0-12-34-56", "020f.f012.3456", "020ff0123456"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().as_str(), "02:0f:f0:12:34:56");
        }
        for text in
            ["", "02:0f:f0:12:34", "02:0f:f0:12:34:5g", "02:0f-f0:12:34:56", "020ff012345é", "02:0f:f0:12:345:6"]
        {
            assert!(text.parse::<MacAddress>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn an_address_that_no_device_has_is_rejected() {
        for text in [
            "ff:ff:ff:ff:ff:ff",
            "FFFFFFFFFFFF",
            "00-00-00-00-00-00",
            "0000.0000.0000",
            "01:00:5e:00:00:01",
            "33:33:00:00:00:01",
        ] {
            let error = text.parse::<MacAddress>().unwrap_err();
            assert!(error.to_string().contains("no such MAC address"), "{text}: {error}");
        }
        // Not only addresses that are locally administered.
        for text in ["00:00:00:00:00:01", "00:1b:21:ff:ff:ff", "fe:ff:ff:ff:ff:ff"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().as_str(), text);
        }
    }

    proptest! {
        #[test]
        fn barcode_normalization_is_idempotent(text in "[0-9]{1,24}") {
            if let Ok(barcode) = text.parse::<Barcode>() {
                prop_assert_eq!(barcode.as_str().parse::<Barcode>().unwrap(), barcode);
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,30}") {
            let _ = text.parse::<Barcode>();
            let _ = text.parse::<MacAddress>();
        }

        #[test]
        fn a_quantity_is_valid_from_1_to_1000(number in any::<i64>()) {
            prop_assert_eq!(Quantity::try_from(number).is_ok(), (1..=1000).contains(&number));
        }
    }
}
