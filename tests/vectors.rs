//! The examples of the plugin protocol that every implementation passes: `clients/vectors`. Those of `settings` and `inputs` are
//! about what only a plugin does.

use serde_json::Value;
use tillstream::bus::partitioner::partition_of;
use tillstream::event::{DerivedId, Scope};
use tillstream::plugins::manifest::Manifest;

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
