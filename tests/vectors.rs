//! The examples of the plugin protocol that every implementation passes: `clients/vectors`, as far as they need no running
//! Tillstream, and the protocol's description for machines. What Tillstream writes of `settings` and `inputs` is looked at in
//! `tests/pipeline/external_vectors.rs`.

use bytes::Bytes;
use serde_json::{Value, json};
use tillstream::bus::partitioner::partition_of;
use tillstream::effect::{Cause, Context, Effect, Effects, Position};
use tillstream::event::{DerivedId, Event, EventData, Scope};
use tillstream::plugins::manifest::Manifest;
use tillstream::stores::Stores;

fn vectors(name: &str) -> Vec<Value> {
    let path = format!("{}/clients/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}

#[test]
fn manifests_are_taken_or_refused_for_the_field_at_fault() {
    for vector in vectors("manifests") {
        let manifest = &vector["manifest"];
        let key = manifest["name"].as_str().unwrap_or_default();
        let outcome = Manifest::parse(Some(key.as_bytes()), manifest.to_string().as_bytes());
        match (vector["fault"].as_str(), outcome) {
            (None, Ok(_)) => {}
            (Some(field), Err(errors)) => {
                assert!(errors.iter().any(|error| error.field == field), "{}: {errors:?}", vector["name"]);
            }
            (expected, outcome) => panic!("{}: expected {expected:?}, got {outcome:?}", vector["name"]),
        }
    }
}

#[test]
fn derived_ids_are_those_of_the_built_in_plugins() {
    for vector in vectors("derived-ids") {
        let id = DerivedId::Event {
            cause: (text(&vector["cause"], "source"), text(&vector["cause"], "id")),
            plugin: text(&vector, "plugin"),
            scope: Scope::from_name(text(&vector, "scope")).expect("a scope"),
            entity: text(&vector, "entity"),
            index: vector["n"].as_u64().and_then(|n| u32::try_from(n).ok()).expect("a small number"),
        };
        assert_eq!(id.to_hex(), text(&vector, "id"), "{vector}");
    }
}

#[test]
fn keys_belong_to_the_partitions_of_the_java_client() {
    for vector in vectors("partitions") {
        let partitions = vector["partitions"].as_u64().and_then(|n| u32::try_from(n).ok()).expect("a small number");
        let partition = partition_of(text(&vector, "key").as_bytes(), partitions);
        assert_eq!(Some(u64::from(partition)), vector["partition"].as_u64(), "{vector}");
    }
}

fn parsed(event: &Value) -> Event {
    Event::parse(&Bytes::from(event.to_string())).unwrap_or_else(|error| panic!("{event}: {error:?}"))
}

/// Where Tillstream knows the type, the event is the very one that a built-in plugin would have published.
#[test]
fn what_is_published_stands_on_the_bus_as_if_a_built_in_plugin_had_published_it() {
    let stores = Stores::default();
    for vector in vectors("events") {
        let cause = parsed(&vector["cause"]);
        let context = Context {
            plugin: "sample",
            scope: Scope::from_name(text(&vector, "scope")).expect("a scope"),
            entity: text(&vector, "entity"),
            now: cause.time,
            position: Position::default(),
            late: false,
            same_actor: false,
            stores: &stores,
        };
        assert_eq!(text(&vector, "plugin"), context.plugin);
        let (mut effects, mut wake) = (Vec::new(), None);
        let mut asked = Effects::new(context, Cause::Event(&cause), &mut effects, &mut wake);
        let mut known = Vec::new();
        for expected in vector["events"].as_array().expect("a list") {
            let event = parsed(expected);
            assert_eq!(event.source.plugin(), Some(context.plugin));
            assert_eq!(event.causation_id.as_deref(), Some(cause.name().as_str()));
            if matches!(event.data, EventData::Unknown) {
                assert_eq!(asked.derive_id(), text(expected, "id"), "{}", vector["name"]);
            } else {
                known.push(expected.clone());
                asked.publish(event.data);
            }
        }
        let made: Vec<Value> = effects
            .iter()
            .map(|effect| match effect {
                Effect::Publish(event) => serde_json::from_slice(&event.raw).expect("JSON"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(made, known, "{}", vector["name"]);
    }
}

/// A part of a message as `docs/asyncapi.yaml` describes it.
fn described(message: &str, part: &str) -> jsonschema::Validator {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/asyncapi.yaml");
    let text = std::fs::read_to_string(path).expect("docs/asyncapi.yaml is part of the repository");
    let mut document: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert!(document["components"]["messages"][message][part].is_object(), "{message} has no {part}");
    document["$ref"] = json!(format!("#/components/messages/{message}/{part}"));
    jsonschema::validator_for(&document).unwrap_or_else(|error| panic!("{message}: {error}"))
}

fn satisfies(schema: &jsonschema::Validator, value: &Value) {
    let faults: Vec<_> = schema.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{value}: {faults:?}");
}

#[test]
fn the_description_for_machines_fits_the_examples() {
    let manifest = described("manifest", "payload");
    for vector in vectors("manifests") {
        match vector["fault"].as_str() {
            None => satisfies(&manifest, &vector["manifest"]),
            // What a schema of the envelope can see.
            Some("protocol" | "scope" | "topics" | "version" | "description" | "eventTypes") => {
                assert!(!manifest.is_valid(&vector["manifest"]), "{}", vector["name"]);
            }
            Some(_) => {}
        }
    }
    let (settings, input) = (described("settings", "payload"), described("input", "payload"));
    let (headers, derived) = (described("input", "headers"), described("derived", "payload"));
    let as_written = |name: &str| vectors(name).into_iter().filter(|vector| vector.get("changes").is_some());
    for vector in as_written("settings") {
        vector["messages"]
            .as_array()
            .expect("a list")
            .iter()
            .for_each(|message| satisfies(&settings, &message["value"]));
    }
    for vector in as_written("inputs") {
        satisfies(&headers, &vector["headers"]);
        satisfies(&input, &vector["value"]);
    }
    for vector in vectors("events") {
        vector["events"].as_array().expect("a list").iter().for_each(|event| satisfies(&derived, event));
    }
}
