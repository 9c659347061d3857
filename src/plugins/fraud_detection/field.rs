//! The fields that `sum` and `distinct` look at, and their values.

use std::hash::{Hash, Hasher};

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::event::{Event, EventData, Id, Scope};
use crate::plugins::expression::EventView;
use crate::plugins::nearest;

/// Largest number that counts as a value, so that no sum overflows.
const NUMBER_MAX: f64 = 1e15;
/// Longest text that counts as a value.
const TEXT_BYTES_MAX: usize = 255;

/// A field of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Amount,
    Source,
    TerminalId,
    StoreId,
    EmployeeId,
    CustomerId,
    CardToken,
    BasketId,
    ProductId,
    Category,
    Method,
    Data(Vec<String>),
}

const NAMES: [(&str, Field); 11] = [
    ("amount", Field::Amount),
    ("source", Field::Source),
    ("terminalId", Field::TerminalId),
    ("storeId", Field::StoreId),
    ("employeeId", Field::EmployeeId),
    ("customerId", Field::CustomerId),
    ("cardToken", Field::CardToken),
    ("basketId", Field::BasketId),
    ("productId", Field::ProductId),
    ("category", Field::Category),
    ("method", Field::Method),
];

/// A value of a field; as the value of a ratio's entry: 1 if it counts in the denominator as well, else 0.
#[derive(Debug, Clone)]
pub(super) enum FieldValue {
    None,
    Bool(bool),
    Number(f64),
    Text(CompactString),
}

impl Field {
    /// Reads the name of a field.
    pub(super) fn parse(name: &str, numeric: bool) -> Result<Self, String> {
        if let Some(path) = name.strip_prefix("data.") {
            let path: Vec<_> = path.split('.').map(ToOwned::to_owned).collect();
            let fits = path.len() <= 8 && path.iter().all(|part| !part.is_empty() && part.len() <= 255);
            return if fits {
                Ok(Self::Data(path))
            } else {
                Err("must be data.KEY, or up to 8 keys with dots".to_owned())
            };
        }
        match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, field)) if numeric && *field != Self::Amount => {
                Err(format!("{name} is no number; a sum is of amount or data.PATH"))
            }
            Some((_, field)) => Ok(field.clone()),
            None => Err(match nearest(name, NAMES.iter().map(|(known, _)| *known)) {
                Some(near) => format!("{name:?} is not a field; did you mean {near}?"),
                None => format!("{name:?} is not a field; keys of the event's data are data.KEY"),
            }),
        }
    }

    /// The value of the field, if the event has it and it can be compared.
    pub(super) fn of(&self, event: &Event, view: &EventView<'_>) -> Option<FieldValue> {
        let data = &event.data;
        let text = match self {
            #[expect(clippy::cast_precision_loss, reason = "amounts have at most 13 digits")]
            Self::Amount => return data.amount().map(|amount| FieldValue::Number(amount as f64)),
            Self::Data(path) => return at_path(view, path),
            Self::Source => Some(event.source.as_str()),
            Self::TerminalId => event.terminal_id(),
            Self::StoreId => event.store_id(),
            Self::EmployeeId => event.entity(Scope::Employee),
            Self::CustomerId => event.entity(Scope::Customer),
            Self::CardToken => event.entity(Scope::Card),
            Self::BasketId => data.basket_id().map(Id::as_str),
            Self::ProductId => match data {
                EventData::ItemAdded(data) | EventData::ItemReturned(data) => Some(data.product_id.as_str()),
                EventData::ItemVoided(data) => Some(data.product_id.as_str()),
                _ => None,
            },
            Self::Category => data.category(),
            Self::Method => match data {
                EventData::PaymentCompleted(data) => Some(data.method.as_str()),
                EventData::RefundCompleted(data) => Some(data.method.as_str()),
                EventData::CustomerIdentified(data) => data.method.as_deref(),
                _ => None,
            },
        };
        text.and_then(text_value)
    }
}

fn text_value(text: &str) -> Option<FieldValue> {
    (text.len() <= TEXT_BYTES_MAX).then(|| FieldValue::Text(CompactString::new(text)))
}

fn at_path(view: &EventView<'_>, path: &[String]) -> Option<FieldValue> {
    match path.iter().try_fold(view.data()?, |value, key| value.get(key))? {
        serde_json::Value::Bool(value) => Some(FieldValue::Bool(*value)),
        serde_json::Value::Number(number) => {
            number.as_f64().filter(|value| value.abs() <= NUMBER_MAX).map(FieldValue::Number)
        }
        serde_json::Value::String(text) => text_value(text),
        _ => None,
    }
}

impl PartialEq for FieldValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            _ => false,
        }
    }
}

/// Numbers are finite, so equality is an equivalence.
impl Eq for FieldValue {}

impl Hash for FieldValue {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        std::mem::discriminant(self).hash(hasher);
        match self {
            Self::None => {}
            Self::Bool(value) => value.hash(hasher),
            // Zero has two signs that compare equal.
            Self::Number(value) => (value + 0.0).to_bits().hash(hasher),
            Self::Text(text) => text.hash(hasher),
        }
    }
}

impl Serialize for FieldValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            #[expect(clippy::cast_possible_truncation, reason = "whole and within the range of i64")]
            Self::Number(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
                serializer.serialize_i64(*value as i64)
            }
            Self::Number(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for FieldValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl de::Visitor<'_> for Any {
            type Value = FieldValue;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a boolean, a number, a text or nothing")
            }
            fn visit_unit<E>(self) -> Result<FieldValue, E> {
                Ok(FieldValue::None)
            }
            fn visit_bool<E>(self, value: bool) -> Result<FieldValue, E> {
                Ok(FieldValue::Bool(value))
            }
            #[expect(clippy::cast_precision_loss, reason = "written from a double")]
            fn visit_i64<E>(self, value: i64) -> Result<FieldValue, E> {
                Ok(FieldValue::Number(value as f64))
            }
            #[expect(clippy::cast_precision_loss, reason = "written from a double")]
            fn visit_u64<E>(self, value: u64) -> Result<FieldValue, E> {
                Ok(FieldValue::Number(value as f64))
            }
            fn visit_f64<E>(self, value: f64) -> Result<FieldValue, E> {
                Ok(FieldValue::Number(value))
            }
            fn visit_str<E>(self, text: &str) -> Result<FieldValue, E> {
                Ok(FieldValue::Text(CompactString::new(text)))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
