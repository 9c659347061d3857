//! JSON Schemas of every event type, generated from the code; `schemas/` holds the files and a test compares them.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::{EventClass, EventType};

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
    let definitions = generator.take_definitions(true);
    if let Some(object) = data.as_object_mut() {
        object.remove("$schema");
    }
    let source = match kind.class() {
        EventClass::Terminal => "^/stores/[^/]+/terminals/[^/]+$",
        _ => "^/plugins/.+$",
    };
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.as_str(),
        "type": "object",
        "required": ["specversion", "id", "source", "type", "time", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1, "maxLength": 255},
            "source": {"type": "string", "pattern": source, "maxLength": 255},
            "type": {"const": kind.as_str()},
            "time": {"type": "string", "format": "date-time"},
            "subject": {"type": "string"},
            "datacontenttype": {"type": "string"},
            "sequence": {"description": "Counts the terminal's events from 1.", "anyOf": [
                {"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]+$"}]},
            "partitionkey": {"type": "string"},
            "businessday": {"type": "string", "format": "date"},
            "training": {"type": "boolean"},
            "causationid": {"type": "string"},
            "correlationid": {"type": "string"},
            "data": data,
        },
    });
    if !definitions.is_empty() {
        schema["$defs"] = Value::Object(definitions);
    }
    schema
}
