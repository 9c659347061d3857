//! The values inside events, as types that cannot be wrong: identifiers, money, quantities, currencies.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;

use compact_str::CompactString;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::patterns;

/// Longest identifier in bytes; what an indexed column holds in both databases.
pub const ID_BYTES_MAX: usize = 255;
/// Largest amount in minor units: ten thousand million in a currency with cents.
pub const AMOUNT_MAX: i64 = 1_000_000_000_000;
/// Largest quantity, in thousandths.
pub const QUANTITY_THOUSANDTHS_MAX: i64 = 1_000_000_000;

/// An identifier: 1 to 255 bytes of UTF-8 without control characters, compared as bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(CompactString);

/// Why a text cannot be an [`Id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The text has more than [`ID_BYTES_MAX`] bytes.
    #[error("is longer than {ID_BYTES_MAX} bytes")]
    TooLong,
    /// The text holds a control character.
    #[error("holds a control character")]
    Control,
}

impl Id {
    /// Checks and copies `text`.
    ///
    /// # Errors
    /// If the text is empty, too long, or holds control characters.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        Self::check(text)?;
        Ok(Self(CompactString::new(text)))
    }

    /// Checks that `text` could be an identifier.
    ///
    /// # Errors
    /// As [`Id::new`].
    pub fn check(text: &str) -> Result<(), InvalidId> {
        if text.is_empty() {
            return Err(InvalidId::Empty);
        }
        if text.len() > ID_BYTES_MAX {
            return Err(InvalidId::TooLong);
        }
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err(InvalidId::Control);
        }
        Ok(())
    }

    /// The identifier's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Id {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an identifier, a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Id::new(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for Id {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX, "pattern": patterns::NO_CONTROL})
    }
    fn inline_schema() -> bool {
        true
    }
}

/// Money in minor units (cents), 0 to [`AMOUNT_MAX`]. The event's type says the direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Amount(i64);

impl Amount {
    /// An amount of `minor` units, if it is within bounds.
    #[must_use]
    pub const fn new(minor: i64) -> Option<Self> {
        if minor < 0 || minor > AMOUNT_MAX { None } else { Some(Self(minor)) }
    }

    /// The amount in minor units.
    #[must_use]
    pub const fn minor(self) -> i64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let minor = i64::deserialize(deserializer)?;
        Self::new(minor)
            .ok_or_else(|| de::Error::custom(format_args!("{minor} is not an amount between 0 and {AMOUNT_MAX}")))
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 0, "maximum": AMOUNT_MAX, "description": "Minor units of the currency."})
    }
    fn inline_schema() -> bool {
        true
    }
}

/// A quantity with up to three decimal places, above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i64);

impl Quantity {
    /// One piece.
    pub const ONE: Self = Self(1000);

    /// A quantity of `thousandths`, if it is within bounds.
    #[must_use]
    pub const fn from_thousandths(thousandths: i64) -> Option<Self> {
        if thousandths < 1 || thousandths > QUANTITY_THOUSANDTHS_MAX { None } else { Some(Self(thousandths)) }
    }

    /// The quantity in thousandths.
    #[must_use]
    pub const fn thousandths(self) -> i64 {
        self.0
    }

    /// Quantity times price, rounded half up to a minor unit.
    #[must_use]
    pub const fn times(self, unit_price: Amount) -> i64 {
        let product = self.0 as i128 * unit_price.0 as i128;
        #[expect(clippy::cast_possible_truncation, reason = "both factors are bounded; the quotient fits")]
        let rounded = ((product + 500) / 1000) as i64;
        rounded
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 1000 == 0 {
            serializer.serialize_i64(self.0 / 1000)
        } else {
            #[expect(clippy::cast_precision_loss, reason = "at most ten digits")]
            serializer.serialize_f64(self.0 as f64 / 1000.0)
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number above 0 with up to 3 decimal places")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
                value
                    .checked_mul(1000)
                    .and_then(Quantity::from_thousandths)
                    .ok_or_else(|| E::custom(format_args!("{value} is not a quantity above 0 and at most 1000000")))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
                self.visit_i64(i64::try_from(value).unwrap_or(i64::MAX))
            }
            #[expect(clippy::cast_possible_truncation, reason = "out-of-range floats saturate and are refused")]
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Quantity, E> {
                let thousandths = (value * 1000.0).round();
                if (value * 1000.0 - thousandths).abs() > 1e-6 * thousandths.abs().max(1.0) {
                    return Err(E::custom(format_args!("{value} has more than 3 decimal places")));
                }
                Quantity::from_thousandths(thousandths as i64)
                    .ok_or_else(|| E::custom(format_args!("{value} is not a quantity above 0 and at most 1000000")))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0.001, "maximum": 1_000_000, "description": "Up to 3 decimal places."})
    }
    fn inline_schema() -> bool {
        true
    }
}

/// An ISO 4217 alphabetic currency code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The euro.
    pub const EUR: Self = Self(*b"EUR");

    /// Reads three upper-case letters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let code: [u8; 3] = text.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }

    /// The code, three upper-case letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("three ASCII letters")
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Currency;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an ISO 4217 currency code such as EUR")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Currency, E> {
                Currency::new(text).ok_or_else(|| E::custom("is not an ISO 4217 currency code such as EUR"))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for Currency {
    fn schema_name() -> Cow<'static, str> {
        "Currency".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217"})
    }
    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_keep_three_places_and_refuse_a_fourth() {
        let read = |text: &str| serde_json::from_str::<Quantity>(text).map(Quantity::thousandths).ok();
        assert_eq!(read("0.384"), Some(384));
        assert_eq!(read("2"), Some(2000));
        assert_eq!(read("0.3845"), None);
        assert_eq!(read("-1"), None);
        assert_eq!(read("1e300"), None);
        assert_eq!(serde_json::to_string(&Quantity(384)).unwrap(), "0.384");
    }

    #[test]
    fn a_weighed_price_rounds_half_up() {
        assert_eq!(Quantity(384).times(Amount(1290)), 495);
        assert_eq!(Quantity(500).times(Amount(1)), 1);
    }
}
