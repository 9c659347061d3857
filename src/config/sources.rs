//! The places that settings come from, each made into a flat list of key, value and origin.

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Shape};
use super::{ConfigError, Override};

const ENV_PREFIX: &str = "TILLSTREAM__";

/// One value for one key, with the place that a message about it should name.
#[derive(Debug)]
pub(super) struct Setting {
    /// `section.key`, in the spelling of the source.
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: String,
}

pub(super) fn is_ours(variable: &str) -> bool {
    variable.get(..ENV_PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(ENV_PREFIX))
}

/// Reads a TOML file.
pub(super) fn from_toml(name: &str, text: &str) -> Result<Vec<Setting>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        ConfigError::one(format!("{name} line {line}"), format!("not valid TOML: {}", error.message()))
    })?;
    let mut settings = Vec::new();
    flatten(name, text, "", table.get_ref(), &mut settings);
    Ok(settings)
}

fn line_of(text: &str, position: usize) -> usize {
    1 + text.as_bytes().iter().take(position).filter(|&&byte| byte == b'\n').count()
}

fn flatten(name: &str, text: &str, prefix: &str, table: &DeTable<'_>, settings: &mut Vec<Setting>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        let origin = format!("{name} line {}", line_of(text, key.span().start));
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() || keys::is_section(&path) => {
                flatten(name, text, &path, inner, settings);
            }
            other => settings.push(Setting { key: path, value: to_json(other), origin }),
        }
    }
}

fn to_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| Value::String(integer.as_str().to_owned()), Value::from),
        DeValue::Float(float) => float.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(boolean) => Value::Bool(*boolean),
        DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => Value::Object(
            table.iter().map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref()))).collect(),
        ),
    }
}

/// Reads `TILLSTREAM__SECTION__KEY`, in any case. A list is JSON, or its items with commas between. In
/// `TILLSTREAM__BUS__KAFKA__NAME` an underscore stands for the dot of librdkafka's names.
pub(super) fn from_env(env: impl IntoIterator<Item = (String, String)>) -> Vec<Setting> {
    let mut settings: Vec<Setting> = env
        .into_iter()
        .filter(|(variable, _)| is_ours(variable))
        .map(|(variable, value)| {
            let parts: Vec<_> = variable[ENV_PREFIX.len()..].split("__").map(str::to_lowercase).collect();
            let key = match parts.as_slice() {
                [bus, kafka, rest @ ..] if bus == "bus" && kafka == "kafka" && !rest.is_empty() => {
                    format!("bus.kafka.{}", rest.join(".").replace('_', "."))
                }
                _ => parts.join("."),
            };
            let key = keys::in_any_case(&key).map_or(key, ToOwned::to_owned);
            Setting { value: from_text(&key, &value), key, origin: format!("environment {variable}") }
        })
        .collect();
    // The environment has no order of its own; messages should have one.
    settings.sort_by(|a, b| a.origin.cmp(&b.origin));
    settings
}

pub(super) fn from_flag(flag: &Override) -> Setting {
    Setting { key: flag.key.to_owned(), value: from_text(flag.key, &flag.value), origin: format!("flag {}", flag.flag) }
}

/// Environment and flags know only text: the key tells what it stands for.
fn from_text(key: &str, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    match keys::shape(key) {
        Some(Shape::Integer) => text.trim().parse::<i64>().map_or_else(|_| as_text(), Value::from),
        Some(Shape::Bool) => text.trim().parse::<bool>().map_or_else(|_| as_text(), Value::from),
        Some(Shape::List) if text.trim_start().starts_with('[') => {
            serde_json::from_str(text).unwrap_or_else(|_| as_text())
        }
        Some(Shape::List) => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect()
        }
        Some(Shape::Tokens) => serde_json::from_str(text).unwrap_or_else(|_| as_text()),
        Some(Shape::Text) | None => as_text(),
    }
}
