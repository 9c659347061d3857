//! The JSON Schemas in `schemas/` are those of the code. `UPDATE=1 cargo test --test schemas` writes them anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use bytes::Bytes;
use serde_json::{Value, json};
use tillstream::event::{Event, json_schemas};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

fn written() -> BTreeSet<String> {
    let entries = fs::read_dir(directory()).expect("schemas/ is part of the repository");
    let names = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("named in ASCII"));
    names.filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "json")).collect()
}

#[test]
fn the_schemas_in_the_repository_are_those_of_the_code() {
    let schemas = json_schemas();
    let update = env::var_os("UPDATE").is_some();
    for (name, schema) in &schemas {
        let path = directory().join(name);
        let text = serde_json::to_string_pretty(schema).expect("a schema is JSON") + "\n";
        if update {
            fs::write(&path, &text).expect("schemas/ can be written");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, text, "{name} is not what the code says: UPDATE=1 cargo test --test schemas");
    }
    let gone: Vec<String> = written().into_iter().filter(|name| !schemas.contains_key(name)).collect();
    if update {
        for name in &gone {
            fs::remove_file(directory().join(name)).expect("schemas/ can be written");
        }
    }
    assert_eq!(written(), schemas.into_keys().collect(), "a file for each event type and no other");
}

#[test]
fn every_schema_can_be_compiled_and_takes_only_its_own_type() {
    for (name, schema) in json_schemas() {
        let validator = jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!validator.is_valid(&serde_json::json!({"type": "pos.something.else"})), "{name} takes anything");
    }
}

/// A value that a schema takes, with everything in it that may be there.
fn example(root: &Value, schema: &Value, name: &str) -> Value {
    if let Some(constant) = schema.get("const") {
        return constant.clone();
    }
    if let Some(first) = schema["enum"].as_array().and_then(|options| options.first()) {
        return first.clone();
    }
    if let Some(pointer) = schema["$ref"].as_str() {
        return example(root, root.pointer(&pointer[1..]).expect("it is there"), name);
    }
    if let Some(forms) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        return example(root, &forms[0], name);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).expect("a type");
    match (kind, name) {
        (_, "time") => json!("2026-01-05T08:00:00Z"),
        (_, "businessday") => json!("2026-01-05"),
        (_, "datacontenttype") => json!("application/json"),
        (_, "currency") => json!("EUR"),
        (_, "source") if schema["pattern"].as_str().expect("a pattern").starts_with("^/stores") => {
            json!("/stores/S001/terminals/T1")
        }
        (_, "source") => json!("/plugins/fraud-detection"),
        ("string", _) => json!("x"),
        ("integer" | "number", _) => json!(1),
        ("boolean", _) => json!(true),
        ("array", _) => json!([example(root, &schema["items"], name)]),
        ("object", _) => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.map(|(name, schema)| (name.clone(), example(root, schema, name))).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Places in an example, as JSON pointers, with the schema of each.
fn places<'a>(root: &'a Value, schema: &'a Value, at: &str, found: &mut Vec<(String, &'a Value)>) {
    let schema = match schema["$ref"].as_str() {
        Some(pointer) => root.pointer(&pointer[1..]).expect("it is there"),
        None => schema,
    };
    if !at.is_empty() {
        found.push((at.to_owned(), schema));
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        places(root, schema, &format!("{at}/{name}"), found);
    }
    if schema["items"].is_object() {
        places(root, &schema["items"], &format!("{at}/0"), found);
    }
}

/// Values on both sides of every bound that a field of the envelope or of the data could have.
fn boundary_values(schema: &Value) -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!("true"),
        json!({}),
        json!([]),
        json!(""),
        json!("x"),
        json!("EUR"),
        json!("eur"),
        json!("EURO"),
        json!("x".repeat(255)),
        json!("x".repeat(256)),
        json!("é".repeat(127)),
        json!("a\u{0}b"),
        json!("a\u{1f}"),
        json!("\u{7f}"),
        json!("ab\n"),
        json!(-1),
        json!(0),
        json!(1),
        json!(1.5),
        json!("1"),
        json!(0.001),
        json!(0.0001),
        json!(u64::MAX),
        json!(1e300),
    ];
    for bound in ["minimum", "maximum"] {
        if let Some(bound) = schema[bound].as_i64() {
            values.extend(
                [Some(bound), bound.checked_add(1), bound.checked_sub(1)].into_iter().flatten().map(Value::from),
            );
        }
    }
    values.extend(schema["enum"].as_array().into_iter().flatten().cloned());
    values
}

/// Values of attributes that are more than a text.
const ATTRIBUTES: [(&str, &[&str]); 6] = [
    (
        "time",
        &[
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
            "10000-01-01T00:00:00Z",
            "2024-02-29T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2000-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-12-31T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-05T24:00:00Z",
            "2026-01-05T23:60:00Z",
            "2026-01-05T23:59:60Z",
            "2026-01-05T23:59:61Z",
            "2026-01-05T08:00:00",
            "2026-01-05T08:00Z",
            "2026-01-05 08:00:00Z",
            "2026-01-05t08:00:00z",
            "2026-01-05T08:00:00.Z",
            "2026-01-05T08:00:00.123456789012Z",
            "2026-01-05T08:00:00,5Z",
            "2026-01-05T08:00:00+23:59",
            "2026-01-05T08:00:00+24:00",
            "2026-01-05T08:00:00+0100",
            "2026-01-05T08:00:00-00:60",
            "2026-01-05",
            " 2026-01-05T08:00:00Z",
            "2026-01-05T08:00:00Z\n",
        ],
    ),
    (
        "businessday",
        &[
            "2026-01-05",
            "0000-01-01",
            "0000-02-29",
            "9999-12-31",
            "2024-02-29",
            "2026-02-29",
            "1900-02-29",
            "2000-02-29",
            "2026-06-31",
            "2026-1-5",
            "20260105",
            "2026-01-05T00:00:00",
            "2026-01-05T00:00:00Z",
            "+002026-01-05",
            "-002026-01-05",
            "2026-W01-1",
            "2026-01-05 ",
            "05.01.2026",
        ],
    ),
    (
        "sequence",
        &[
            "0",
            "1",
            "007",
            "000",
            "9007199254740992",
            "9007199254740993",
            "8999999999999999",
            "9999999999999999",
            "10000000000000000",
            "+5",
            "-1",
            " 1",
            "1.0",
            "٣",
        ],
    ),
    ("datacontenttype", &["application/json", "application/cloudevents+JSON; charset=utf-8", "text/plain"]),
    (
        "source",
        &[
            "/stores/S001/terminals/T1",
            "/stores//terminals/T1",
            "/stores/S001/terminals/",
            "/stores/S001/terminals/T1/x",
            "/stores/S/1/terminals/T1",
            "/plugins/x",
            "/plugins/",
            "/plugins/x/y",
            "/stores/a\u{1}/terminals/T1",
        ],
    ),
    ("specversion", &["1.0", "1.1", "0.3"]),
];

/// True if the parser takes the event, as one of this type.
fn is_taken(event: &Value, kind: &str) -> bool {
    Event::parse(&Bytes::from(event.to_string())).is_ok_and(|event| event.event_type().as_str() == kind)
}

#[test]
fn a_schema_takes_what_the_parser_takes_and_refuses_what_it_refuses() {
    for (file, schema) in json_schemas() {
        let kind = file.strip_suffix(".json").expect("a JSON file");
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let whole = example(&schema, &schema, "");
        assert!(validator.is_valid(&whole) && is_taken(&whole, kind), "{whole}");
        let agree = |event: &Value, what: &str| {
            let (valid, taken) = (validator.is_valid(event), is_taken(event, kind));
            assert_eq!(valid, taken, "{file}: {what}: the schema says {valid}, the parser says {taken}: {event}");
        };
        let mut found = Vec::new();
        places(&schema, &schema, "", &mut found);
        for (at, part) in &found {
            for value in boundary_values(part) {
                // That a token is no card number, and how long a text is in bytes, JSON Schema cannot say.
                let mut event = whole.clone();
                *event.pointer_mut(at).expect("the example has it all") = value;
                agree(&event, at);
            }
            let (parent, key) = at.rsplit_once('/').expect("a pointer");
            let mut event = whole.clone();
            if let Some(object) = event.pointer_mut(parent).and_then(Value::as_object_mut) {
                object.remove(key);
                agree(&event, &format!("without {at}"));
            }
        }
        for (attribute, values) in ATTRIBUTES {
            for value in values {
                let mut event = whole.clone();
                event[attribute] = json!(value);
                agree(&event, attribute);
            }
        }
        for number in [0_u64, 1, 1 << 53, (1 << 53) + 1] {
            let mut event = whole.clone();
            event["sequence"] = json!(number);
            agree(&event, "sequence");
        }
        for key in ["cardNumber", "dob", "pan", "anything"] {
            let mut event = whole.clone();
            event["data"][key] = json!("x");
            agree(&event, key);
        }
    }
}

#[test]
fn schemas_use_no_format_that_others_do_not_know() {
    fn formats<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Array(items) => {
                for item in items {
                    formats(item, found);
                }
            }
            Value::Object(object) => {
                found.extend(object.get("format").and_then(Value::as_str));
                for value in object.values() {
                    formats(value, found);
                }
            }
            _ => {}
        }
    }
    let schemas = json_schemas();
    let mut found = BTreeSet::new();
    for schema in schemas.values() {
        formats(schema, &mut found);
    }
    assert_eq!(found, BTreeSet::from(["date", "date-time"]));
}
