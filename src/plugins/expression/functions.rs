//! The functions that expressions may call. A function is in the table only if it works; a test evaluates each.
//!
//! No regular expressions (`matches`): their cost cannot be told from the length of the text.

use super::fault::{Fault, Problem};
use super::meter::Meter;
use super::times::{self, Part};
use super::value::{Text, Value};

/// What a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    LowerAscii,
    UpperAscii,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Timestamp,
    Duration,
    Type,
    Dyn,
    Part(Part),
}

/// How a function is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `size(x)`
    Global,
    /// `x.getHours()`
    Member,
    /// Either.
    Both,
}

/// A function as it is called.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) function: Function,
    style: Style,
    /// Fewest and most operands, with the one before the dot.
    operands: (usize, usize),
}

const fn global(name: &'static str, function: Function) -> Signature {
    Signature { name, function, style: Style::Global, operands: (1, 1) }
}

const fn of_text(name: &'static str, function: Function, operands: usize) -> Signature {
    Signature { name, function, style: Style::Member, operands: (operands, operands) }
}

const fn part(name: &'static str, part: Part) -> Signature {
    Signature { name, function: Function::Part(part), style: Style::Member, operands: (1, 2) }
}

impl Signature {
    pub(super) const ALL: [Self; 25] = [
        Self { name: "size", function: Function::Size, style: Style::Both, operands: (1, 1) },
        of_text("contains", Function::Contains, 2),
        of_text("startsWith", Function::StartsWith, 2),
        of_text("endsWith", Function::EndsWith, 2),
        of_text("lowerAscii", Function::LowerAscii, 1),
        of_text("upperAscii", Function::UpperAscii, 1),
        global("bool", Function::Bool),
        global("int", Function::Int),
        global("uint", Function::Uint),
        global("double", Function::Double),
        global("string", Function::String),
        global("timestamp", Function::Timestamp),
        global("duration", Function::Duration),
        global("type", Function::Type),
        global("dyn", Function::Dyn),
        part("getFullYear", Part::FullYear),
        part("getMonth", Part::Month),
        part("getDayOfYear", Part::DayOfYear),
        part("getDayOfMonth", Part::DayOfMonth),
        part("getDate", Part::Date),
        part("getDayOfWeek", Part::DayOfWeek),
        part("getHours", Part::Hours),
        part("getMinutes", Part::Minutes),
        part("getSeconds", Part::Seconds),
        part("getMilliseconds", Part::Milliseconds),
    ];

    /// The function of that name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        const ALL: &[Signature] = &Signature::ALL;
        ALL.iter().find(|signature| signature.name == name)
    }

    /// What is wrong with a call, if anything.
    pub(super) fn fault(&self, has_target: bool, arguments: usize) -> Option<String> {
        let Self { name, operands: (fewest, most), .. } = self;
        let example = if self.style == Style::Member {
            match most {
                1 => format!("TEXT.{name}()"),
                _ if *fewest == 2 => format!("TEXT.{name}(OTHER)"),
                _ => format!("TIMESTAMP.{name}() or TIMESTAMP.{name}(ZONE)"),
            }
        } else {
            format!("{name}(VALUE)")
        };
        let style_fits = match self.style {
            Style::Both => true,
            Style::Global => !has_target,
            Style::Member => has_target,
        };
        let fits = style_fits && (*fewest..=*most).contains(&(arguments + usize::from(has_target)));
        (!fits).then(|| format!("{name}() is written {example}"))
    }
}

impl Function {
    /// Calls the function.
    pub(super) fn call<'a>(self, operands: &[Value<'a>], meter: &mut Meter) -> Result<Value<'a>, Fault<'a>> {
        match (self, operands) {
            (Self::Size, [value]) => size(value, meter),
            (Self::Contains | Self::StartsWith | Self::EndsWith, [Value::Text(text), Value::Text(part)]) => {
                self.search(text.as_str(), part.as_str(), meter)
            }
            (Self::LowerAscii, [Value::Text(text)]) => Value::made(&text.as_str().to_ascii_lowercase(), meter),
            (Self::UpperAscii, [Value::Text(text)]) => Value::made(&text.as_str().to_ascii_uppercase(), meter),
            (Self::Bool, [value]) => to_bool(value),
            (Self::Int, [value]) => to_int(value),
            (Self::Uint, [value]) => to_uint(value),
            (Self::Double, [value]) => to_double(value, meter),
            (Self::String, [value]) => to_text(value, meter),
            (Self::Timestamp, [value]) => times::to_timestamp(value),
            (Self::Duration, [value]) => times::to_duration(value, meter),
            (Self::Type, [value]) => Ok(Value::Type(value.type_name())),
            (Self::Dyn, [value]) => Ok(value.clone()),
            (Self::Part(part), [value, zone @ ..]) => times::part(part, value, zone.first(), meter),
            (_, [value, rest @ ..]) => Err(no_overload(self.name(), value, rest.first())),
            (_, []) => Err(Problem::NoOverload(self.name(), "null_type", None).into()),
        }
    }

    pub(super) fn name(self) -> &'static str {
        const ALL: &[Signature] = &Signature::ALL;
        ALL.iter().find(|signature| signature.function == self).map_or("the function", |signature| signature.name)
    }

    fn search<'a>(self, text: &str, part: &str, meter: &mut Meter) -> Result<Value<'a>, Fault<'a>> {
        Ok(Value::Bool(match self {
            Self::Contains => {
                // Reads each byte of both a few times at worst.
                meter.look(4 * text.len().saturating_add(part.len()))?;
                text.contains(part)
            }
            Self::StartsWith => {
                meter.look(part.len())?;
                text.starts_with(part)
            }
            _ => {
                meter.look(part.len())?;
                text.ends_with(part)
            }
        }))
    }
}

fn no_overload<'a>(what: &'static str, value: &Value<'a>, second: Option<&Value<'a>>) -> Fault<'a> {
    Problem::NoOverload(what, value.type_name(), second.map(Value::type_name)).into()
}

fn not_converted<'a>(value: &Value<'a>, to: &'static str) -> Fault<'a> {
    Problem::NotConverted(value.type_name(), to).into()
}

fn whole<'a>(number: usize) -> Value<'a> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn size<'a>(value: &Value<'a>, meter: &mut Meter) -> Result<Value<'a>, Fault<'a>> {
    match value {
        Value::Text(text) => {
            meter.look(text.as_str().len())?;
            Ok(whole(text.as_str().chars().count()))
        }
        Value::List(list) => Ok(whole(list.len())),
        Value::Map(map) => Ok(whole(map.len())),
        _ => Err(no_overload("size()", value, None)),
    }
}

fn to_bool<'a>(value: &Value<'a>) -> Result<Value<'a>, Fault<'a>> {
    match value {
        Value::Bool(_) => Ok(value.clone()),
        Value::Text(text) => match text.as_str() {
            "1" | "t" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(not_converted(value, "bool")),
        },
        _ => Err(no_overload("bool()", value, None)),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "the range is checked first")]
fn to_int<'a>(value: &Value<'a>) -> Result<Value<'a>, Fault<'a>> {
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::Uint(number) => i64::try_from(*number).ok(),
        // 2^63 itself is out of range, and so by the specification is -2^63.
        Value::Double(number) => (*number > i64::MIN as f64 && *number < i64::MAX as f64).then_some(*number as i64),
        Value::Text(text) => times::short(text.as_str()).and_then(|text| text.parse().ok()),
        Value::Timestamp(at) => Some(at.as_duration().as_secs() - i64::from(at.subsec_nanosecond() < 0)),
        _ => return Err(no_overload("int()", value, None)),
    };
    number.map(Value::Int).ok_or_else(|| not_converted(value, "int"))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the range is checked first"
)]
fn to_uint<'a>(value: &Value<'a>) -> Result<Value<'a>, Fault<'a>> {
    let number = match value {
        Value::Uint(number) => Some(*number),
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Double(number) => (*number >= 0.0 && *number < u64::MAX as f64).then_some(*number as u64),
        Value::Text(text) => times::short(text.as_str()).and_then(|text| text.parse().ok()),
        _ => return Err(no_overload("uint()", value, None)),
    };
    number.map(Value::Uint).ok_or_else(|| not_converted(value, "uint"))
}

#[expect(clippy::cast_precision_loss, reason = "what double() does in every implementation of CEL")]
fn to_double<'a>(value: &Value<'a>, meter: &mut Meter) -> Result<Value<'a>, Fault<'a>> {
    match value {
        Value::Double(_) => Ok(value.clone()),
        Value::Int(number) => Ok(Value::Double(*number as f64)),
        Value::Uint(number) => Ok(Value::Double(*number as f64)),
        Value::Text(text) => {
            meter.look(4 * text.as_str().len())?;
            text.as_str().parse().map(Value::Double).map_err(|_| not_converted(value, "double"))
        }
        _ => Err(no_overload("double()", value, None)),
    }
}

fn to_text<'a>(value: &Value<'a>, meter: &mut Meter) -> Result<Value<'a>, Fault<'a>> {
    let text = match value {
        Value::Text(Text::Borrowed(_) | Text::Made(_)) => return Ok(value.clone()),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Timestamp(at) => at.to_string(),
        Value::Duration(duration) => times::duration_text(*duration),
        _ => return Err(no_overload("string()", value, None)),
    };
    Value::made(&text, meter)
}
