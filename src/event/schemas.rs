//! JSON Schemas of every event type, generated from the code; `schemas/` holds the files and a test compares them.
//!
//! They take what the parser takes, as far as JSON Schema can say it, without formats that only this code knows. What it
//! cannot say: that an identifier's 255 are bytes, that a token is no card number, the size and depth of an event, and
//! that 1.0 is not the integer 1.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::parse::{FORBIDDEN_KEYS, SEQUENCE_MAX};
use super::{EventClass, EventType, ID_BYTES_MAX, patterns};

/// One schema for each event type on the bus, by file name (`pos.basket.item_added.json`).
#[must_use]
pub fn json_schemas() -> BTreeMap<String, Value> {
    EventType::ALL
        .iter()
        .filter(|kind| kind.class() != EventClass::Internal)
        .map(|&kind| (format!("{}.json", kind.as_str()), event_schema(kind)))
        .collect()
}

fn event_schema(kind: EventType) -> Value {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let mut data = kind.data_schema(&mut generator).to_value();
    let mut definitions = Value::Object(generator.take_definitions(true));
    state_bounds(&mut data);
    state_bounds(&mut definitions);
    if let Some(object) = data.as_object_mut() {
        object.remove("$schema");
        object.insert("propertyNames".to_owned(), json!({"not": {"enum": FORBIDDEN_KEYS}}));
    }
    let source = match kind.class() {
        EventClass::Terminal => patterns::TERMINAL_SOURCE,
        _ => patterns::PLUGIN_SOURCE,
    };
    let text = json!({"type": ["string", "null"]});
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.as_str(),
        "type": "object",
        "required": ["specversion", "id", "source", "type", "time", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX, "pattern": patterns::ID},
            "source": {"type": "string", "pattern": source, "maxLength": ID_BYTES_MAX},
            "type": {"const": kind.as_str()},
            "time": {"type": "string", "format": "date-time", "pattern": patterns::date_time()},
            "subject": text,
            "datacontenttype": {"type": ["string", "null"], "pattern": patterns::JSON_MEDIA_TYPE},
            "sequence": {"description": "Counts the terminal's events from 1.", "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": SEQUENCE_MAX},
                {"type": "string", "pattern": patterns::decimal_up_to(SEQUENCE_MAX)},
                {"type": "null"}]},
            "partitionkey": text,
            "businessday": {"type": ["string", "null"], "format": "date", "pattern": patterns::date()},
            "training": {"type": ["boolean", "null"]},
            "causationid": text,
            "correlationid": text,
            "data": data,
        },
    });
    if definitions.as_object().is_some_and(|definitions| !definitions.is_empty()) {
        schema["$defs"] = definitions;
    }
    schema
}

/// Puts the ranges of Rust's numbers in place of the formats that name them: no validator knows those.
fn state_bounds(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(state_bounds),
        Value::Object(object) => {
            state_bound(object);
            object.values_mut().for_each(state_bounds);
        }
        _ => {}
    }
}

fn state_bound(schema: &mut Map<String, Value>) {
    let (minimum, maximum) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (json!(0), json!(u8::MAX)),
        Some("uint16") => (json!(0), json!(u16::MAX)),
        Some("uint32") => (json!(0), json!(u32::MAX)),
        Some("uint64") => (json!(0), json!(u64::MAX)),
        Some("int32") => (json!(i32::MIN), json!(i32::MAX)),
        Some("int64") => (json!(i64::MIN), json!(i64::MAX)),
        Some("double" | "float") => {
            schema.remove("format");
            return;
        }
        _ => return,
    };
    schema.remove("format");
    schema.entry("minimum").or_insert(minimum);
    schema.entry("maximum").or_insert(maximum);
}
