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
/// Parts of one piece that quantities are counted in.
pub const QUANTITY_PARTS: i64 = 10_000;
/// Largest quantity, in parts.
const QUANTITY_PARTS_MAX: i64 = 1_000_000 * QUANTITY_PARTS;

/// An identifier: 1 to 255 bytes of UTF-8 without control characters, compared as bytes: letters' case and Unicode form
/// matter. What comes from outside is read by [`Id::read`], which is stricter.
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
    /// The text holds a character that nobody sees.
    #[error(
        "holds an invisible character (U+{:04X}), such as a direction mark or a zero-width space; send the id without it",
        u32::from(*.0)
    )]
    Invisible(char),
    /// A store's or terminal's name within a source begins or ends with a blank.
    #[error("names a store or terminal that begins or ends with a blank; send it without")]
    Padded,
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

    /// Reads an identifier from outside: blanks around it are dropped; nothing in it may be invisible, since two ids that
    /// look alike would be two entities.
    ///
    /// # Errors
    /// As [`Id::new`], or if the text holds a direction mark or another invisible character.
    pub fn read(text: &str) -> Result<Self, InvalidId> {
        // A control character at the end is no blank: it is refused like one within.
        let text = text.trim_matches(|character: char| character.is_whitespace() && !character.is_control());
        Self::check(text)?;
        let hidden = if text.is_ascii() { None } else { text.chars().find(|character| is_invisible(*character)) };
        match hidden {
            Some(character) => Err(InvalidId::Invisible(character)),
            None => Ok(Self(CompactString::new(text))),
        }
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

/// Direction marks, zero-width characters, separators of lines, control characters beyond ASCII, and what is no character.
const fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e0000}'..='\u{e0fff}'
    )
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
        struct Text(bool);
        impl de::Visitor<'_> for Text {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an identifier, a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                let id = if self.0 { Id::read(text) } else { Id::new(text) };
                id.map_err(E::custom)
            }
        }
        // Text comes from outside; what is stored in binary form was taken by rules of its time.
        let from_outside = deserializer.is_human_readable();
        deserializer.deserialize_str(Text(from_outside))
    }
}

impl JsonSchema for Id {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX, "pattern": patterns::ID,
            "description": "Compared byte by byte: letters' case and Unicode form matter. Blanks around it are dropped."})
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

/// Money that may go either way, in minor units: from -[`AMOUNT_MAX`] to [`AMOUNT_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct SignedAmount(i64);

impl SignedAmount {
    /// An amount of `minor` units, if it is within bounds.
    #[must_use]
    pub const fn new(minor: i64) -> Option<Self> {
        if minor < -AMOUNT_MAX || minor > AMOUNT_MAX { None } else { Some(Self(minor)) }
    }

    /// The amount in minor units.
    #[must_use]
    pub const fn minor(self) -> i64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for SignedAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let minor = i64::deserialize(deserializer)?;
        Self::new(minor).ok_or_else(|| {
            de::Error::custom(format_args!("{minor} is not an amount between -{AMOUNT_MAX} and {AMOUNT_MAX}"))
        })
    }
}

impl JsonSchema for SignedAmount {
    fn schema_name() -> Cow<'static, str> {
        "SignedAmount".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": -AMOUNT_MAX, "maximum": AMOUNT_MAX, "description": "Minor units of the currency; below 0 in the customer's favour."})
    }
    fn inline_schema() -> bool {
        true
    }
}

/// A quantity with up to four decimal places, above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i64);

impl Quantity {
    /// One piece.
    pub const ONE: Self = Self(QUANTITY_PARTS);

    /// A quantity of so many ten-thousandths, if it is within bounds.
    #[must_use]
    pub const fn from_parts(parts: i64) -> Option<Self> {
        if parts < 1 || parts > QUANTITY_PARTS_MAX { None } else { Some(Self(parts)) }
    }

    /// The quantity in ten-thousandths.
    #[must_use]
    pub const fn parts(self) -> i64 {
        self.0
    }

    /// Quantity times price, rounded half up to a minor unit.
    #[must_use]
    pub const fn times(self, unit_price: Amount) -> i64 {
        let product = self.0 as i128 * unit_price.0 as i128;
        let half = (QUANTITY_PARTS / 2) as i128;
        #[expect(clippy::cast_possible_truncation, reason = "both factors are bounded; the quotient fits")]
        let rounded = ((product + half) / QUANTITY_PARTS as i128) as i64;
        rounded
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % QUANTITY_PARTS == 0 {
            serializer.serialize_i64(self.0 / QUANTITY_PARTS)
        } else {
            #[expect(clippy::cast_precision_loss, reason = "at most eleven digits")]
            serializer.serialize_f64(self.0 as f64 / QUANTITY_PARTS as f64)
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number above 0 with up to 4 decimal places")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
                value.checked_mul(QUANTITY_PARTS).and_then(Quantity::from_parts).ok_or_else(|| out_of_range(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
                self.visit_i64(i64::try_from(value).unwrap_or(i64::MAX))
            }
            #[expect(clippy::cast_possible_truncation, reason = "out-of-range floats saturate and are refused")]
            #[expect(clippy::cast_precision_loss, reason = "a small constant")]
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Quantity, E> {
                let scaled = value * QUANTITY_PARTS as f64;
                let parts = scaled.round();
                // A double of up to eleven digits is off by far less than this, and a fifth place by far more.
                if (scaled - parts).abs() > 1e-3 {
                    return Err(E::custom(format_args!("{value} has more than 4 decimal places")));
                }
                Quantity::from_parts(parts as i64).ok_or_else(|| out_of_range(value))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

fn out_of_range<E: de::Error>(value: impl fmt::Display) -> E {
    E::custom(format_args!(
        "{value} is not a quantity above 0 and at most 1000000; what comes back is an item_returned, or a line with returned: true"
    ))
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0.0001, "maximum": 1_000_000, "description": "Up to 4 decimal places."})
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

    /// How many decimals there are between the minor and the major unit: none of the yen, three of the Kuwaiti dinar, two of
    /// most.
    #[must_use]
    pub fn exponent(&self) -> u8 {
        match self.as_str() {
            "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
            | "VUV" | "XAF" | "XOF" | "XPF" => 0,
            "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
            "CLF" | "UYW" => 4,
            _ => 2,
        }
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
    fn quantities_keep_four_places_and_refuse_a_fifth() {
        let read = |text: &str| serde_json::from_str::<Quantity>(text).map(Quantity::parts).ok();
        assert_eq!(read("0.384"), Some(3840));
        assert_eq!(read("2"), Some(20_000));
        assert_eq!(read("0.3845"), Some(3845));
        assert_eq!(read("999999.9999"), Some(9_999_999_999));
        assert_eq!(read("0.38455"), None);
        assert_eq!(read("999999.99995"), None);
        assert_eq!(read("-1"), None);
        assert_eq!(read("1e300"), None);
        assert_eq!(serde_json::to_string(&Quantity(3840)).unwrap(), "0.384");
        assert_eq!(serde_json::to_string(&Quantity(1)).unwrap(), "0.0001");
    }

    #[test]
    fn ids_lose_the_blanks_around_them_and_hold_nothing_that_nobody_sees() {
        let read = |text: &str| serde_json::from_value::<Id>(text.into()).map(|id| id.to_string()).ok();
        assert_eq!(read(" E7\u{a0}").as_deref(), Some("E7"));
        assert_eq!(read("Grüße 7").as_deref(), Some("Grüße 7"));
        for wrong in
            ["", "  ", "\u{3000}", "E\u{200f}7", "\u{202e}7E", "E7\u{200b}", "\u{feff}E7", "E\u{85}7", "E\u{0}7"]
        {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_ne!(read("e7"), read("E7"), "case matters");
        let stored = rmp_serde::to_vec(&Id::new(" E7").unwrap()).unwrap();
        assert_eq!(rmp_serde::from_slice::<Id>(&stored).unwrap().as_str(), " E7", "what was stored stays what it was");
    }

    #[test]
    fn currencies_know_their_decimals() {
        let exponent = |code| Currency::new(code).unwrap().exponent();
        assert_eq!(["JPY", "EUR", "KWD", "CLF"].map(exponent), [0, 2, 3, 4]);
    }

    #[test]
    fn a_weighed_price_rounds_half_up() {
        assert_eq!(Quantity(3840).times(Amount(1290)), 495);
        assert_eq!(Quantity(5000).times(Amount(1)), 1);
    }
}
