//! The JSON Schemas in `schemas/` are those of the code. `UPDATE=1 cargo test --test schemas` writes them anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use tillstream::event::json_schemas;

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
