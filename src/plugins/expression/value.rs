//! Values of an evaluation. What comes from the event or from the expression is borrowed; what is made is shared, so that no
//! value is ever copied whole.

use std::cmp::Ordering;
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;

use super::fault::{Fault, Problem};
use super::meter::Meter;

/// Steps that finding a key takes, and bytes of the key that take another one: the key is hashed.
const KEY_STEPS: usize = 3;
const KEY_BYTES_PER_STEP: usize = 8;

/// A value of CEL.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    List(List<'a>),
    Map(Map<'a>),
    Timestamp(Timestamp),
    Duration(SignedDuration),
    /// The name of a type.
    Type(&'static str),
}

#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<str>),
}

#[derive(Debug, Clone)]
pub(super) enum List<'a> {
    Json(&'a [Json]),
    Made(Rc<Vec<Value<'a>>>),
}

#[derive(Debug, Clone)]
pub(super) enum Map<'a> {
    Json(&'a serde_json::Map<String, Json>),
    Made(Rc<Vec<(Value<'a>, Value<'a>)>>),
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(items) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Json(items) => items.get(index).map(Value::from),
            Self::Made(items) => items.get(index).cloned(),
        }
    }

    /// True if an item equals the value.
    pub(super) fn contains(&self, value: &Value<'a>, meter: &mut Meter) -> Result<bool, Fault<'a>> {
        for index in 0..self.len() {
            if let Some(item) = self.get(index)
                && item.equals(value, meter)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn equals(&self, other: &Self, meter: &mut Meter) -> Result<bool, Fault<'a>> {
        if self.len() != other.len() {
            return Ok(false);
        }
        // Two items are fetched for each comparison.
        meter.steps(self.len())?;
        for (a, b) in (0..self.len()).filter_map(|index| self.get(index).zip(other.get(index))) {
            if !a.equals(&b, meter)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<'a> Map<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(map) => map.len(),
            Self::Made(entries) => entries.len(),
        }
    }

    /// The value of a text key.
    pub(super) fn get_text(&self, key: &str, meter: &mut Meter) -> Result<Option<Value<'a>>, Fault<'a>> {
        meter.steps(KEY_STEPS + key.len() / KEY_BYTES_PER_STEP)?;
        match self {
            Self::Json(map) => Ok(map.get(key).map(Value::from)),
            Self::Made(entries) => {
                meter.steps(entries.len())?;
                let found =
                    entries.iter().find(|(known, _)| matches!(known, Value::Text(text) if text.as_str() == key));
                Ok(found.map(|(_, value)| value.clone()))
            }
        }
    }

    /// The value of a key. Numbers of different types are the same key if they are equal.
    pub(super) fn get(&self, key: &Value<'a>, meter: &mut Meter) -> Result<Option<Value<'a>>, Fault<'a>> {
        match (key, self) {
            (Value::Text(text), _) => self.get_text(text.as_str(), meter),
            (Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_), Self::Json(_)) => Ok(None),
            (Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_), Self::Made(entries)) => {
                for (known, value) in entries.iter() {
                    if known.equals(key, meter)? {
                        return Ok(Some(value.clone()));
                    }
                }
                Ok(None)
            }
            _ => Err(Problem::NoOverload("a map's key", key.type_name(), None).into()),
        }
    }

    /// The keys, in the order in which they were written.
    pub(super) fn keys(&self, meter: &mut Meter) -> Result<List<'a>, Fault<'a>> {
        meter.make(self.len() * size_of::<Value<'_>>())?;
        Ok(List::Made(Rc::new(match self {
            Self::Json(map) => map.keys().map(|key| Value::Text(Text::Borrowed(key))).collect(),
            Self::Made(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
        })))
    }

    fn equals(&self, other: &Self, meter: &mut Meter) -> Result<bool, Fault<'a>> {
        if self.len() != other.len() {
            return Ok(false);
        }
        let keys = self.keys(meter)?;
        for key in (0..keys.len()).filter_map(|index| keys.get(index)) {
            match (self.get(&key, meter)?, other.get(&key, meter)?) {
                (Some(a), Some(b)) if a.equals(&b, meter)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => {
                number.as_i64().map_or_else(|| Self::Double(number.as_f64().unwrap_or(f64::NAN)), Self::Int)
            }
            Json::String(text) => Self::Text(Text::Borrowed(text)),
            Json::Array(items) => Self::List(List::Json(items)),
            Json::Object(map) => Self::Map(Map::Json(map)),
        }
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(Text::Borrowed(text)))
    }
}

impl<'a> Value<'a> {
    /// A text that the evaluation makes.
    pub(super) fn made(text: &str, meter: &mut Meter) -> Result<Self, Fault<'a>> {
        meter.make(text.len())?;
        Ok(Self::Text(Text::Made(Rc::from(text))))
    }

    /// The name of its type in CEL.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
        }
    }

    /// `==`: numbers of all types compare by value, values of other types that differ are not equal.
    pub(super) fn equals(&self, other: &Self, meter: &mut Meter) -> Result<bool, Fault<'a>> {
        meter.steps(1)?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => {
                let (a, b) = (a.as_str(), b.as_str());
                a.len() == b.len() && {
                    meter.look(a.len())?;
                    a == b
                }
            }
            (Self::List(a), Self::List(b)) => a.equals(b, meter)?,
            (Self::Map(a), Self::Map(b)) => a.equals(b, meter)?,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            _ => self.compare_numbers(other) == Some(Ordering::Equal),
        })
    }

    /// The order of two values, for `<` and the like. `None` if one is not a number.
    pub(super) fn compare(
        &self,
        other: &Self,
        operator: &'static str,
        meter: &mut Meter,
    ) -> Result<Option<Ordering>, Fault<'a>> {
        Ok(Some(match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => {
                let (a, b) = (a.as_str(), b.as_str());
                meter.look(a.len().min(b.len()))?;
                a.cmp(b)
            }
            (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            (Self::Duration(a), Self::Duration(b)) => a.cmp(b),
            _ if self.is_number() && other.is_number() => return Ok(self.compare_numbers(other)),
            _ => return Err(Problem::NoOverload(operator, self.type_name(), Some(other.type_name())).into()),
        }))
    }

    const fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Uint(_) | Self::Double(_))
    }

    /// The order of two numbers by value, exact beyond 2^53. `None` if one is NaN, or none is a number.
    fn compare_numbers(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Uint(a), Self::Uint(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Uint(a), Self::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Double(b)) => compare_whole(i128::from(*a), *b),
            (Self::Uint(a), Self::Double(b)) => compare_whole(i128::from(*a), *b),
            (Self::Double(a), Self::Int(b)) => compare_whole(i128::from(*b), *a).map(Ordering::reverse),
            (Self::Double(a), Self::Uint(b)) => compare_whole(i128::from(*b), *a).map(Ordering::reverse),
            _ => None,
        }
    }
}

/// Compares a whole number of at most 64 bits with a double.
fn compare_whole(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a cast saturates, and 128 bits lie beyond all 64-bit numbers")]
    let floor = double.floor() as i128;
    let above = double > double.floor();
    Some(whole.cmp(&floor).then(if above { Ordering::Less } else { Ordering::Equal }))
}
