//! What a plugin in another language says of itself: its manifest, checked as a whole before anybody relies on it.
//!
//! The protocol stands in `docs/plugin-protocol.md`. Every fault names its field.

use std::collections::BTreeMap;

use jsonschema::{Draft, PatternOptions, Validator};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::validate::{check, read};
use super::{EventTypes, FieldError, Plugin, PluginVisitor, nearest, visit_all};
use crate::bus::InputTopic;
use crate::event::{EventClass, EventType, Scope};

/// The version of the protocol that this is.
const PROTOCOL: u32 = 1;
/// Largest manifest in bytes.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
const VERSION_BYTES: std::ops::RangeInclusive<usize> = 1..=40;
const DESCRIPTION_BYTES_MAX: usize = 500;
const EVENT_TYPES: std::ops::RangeInclusive<usize> = 1..=64;

/// A manifest as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestDocument {
    /// Version of the protocol: 1.
    pub protocol: u32,
    /// The plugin's name.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// What it does, for the manager.
    pub description: String,
    /// The kind of entity that keys its input and its state.
    pub scope: Scope,
    /// The event types that it wants.
    pub event_types: Vec<String>,
    /// JSON Schema of its settings.
    pub settings_schema: Value,
    /// Settings to begin with.
    pub default_settings: Value,
}

/// A manifest that has been checked.
#[derive(Debug)]
pub struct Manifest {
    /// As it was written.
    pub document: ManifestDocument,
    /// Where the plugin's events go.
    pub input: InputTopic,
    /// The event types that it wants.
    pub event_types: EventTypes,
    /// True if it wants what plugins publish.
    pub wants_published: bool,
    schema: Validator,
}

impl Manifest {
    /// Reads a manifest that stands on the bus under this key.
    ///
    /// # Errors
    /// Every field that is wrong, or an error without field if it is no JSON.
    pub fn parse(key: Option<&[u8]>, bytes: &[u8]) -> Result<Self, Vec<FieldError>> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            let message = format!("has {} bytes; at most {MANIFEST_BYTES_MAX} are taken", bytes.len());
            return Err(vec![FieldError::new("", message)]);
        }
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| vec![FieldError::new("", format!("is no JSON: {error}"))])?;
        let manifest = Self::compile(&value)?;
        if key != Some(manifest.document.name.as_bytes()) {
            let key = key.map(String::from_utf8_lossy).unwrap_or_default();
            return Err(vec![FieldError::new("name", format!("is not the record's key, {key:?}"))]);
        }
        Ok(manifest)
    }

    /// Checks a manifest.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn compile(value: &Value) -> Result<Self, Vec<FieldError>> {
        let document: ManifestDocument = read(value, "")?;
        let mut errors = Vec::new();
        let mut wrong = |field: &str, message: String| errors.push(FieldError::new(field, message));
        if document.protocol != PROTOCOL {
            wrong("protocol", format!("is {}; this version speaks protocol {PROTOCOL}", document.protocol));
        }
        let input = InputTopic::of(&document.name);
        if input.is_none() {
            wrong("name", format!("is {:?}; must match ^[a-z][a-z0-9-]{{1,39}}$", document.name));
        } else if builtin_names().contains(&document.name.as_str()) {
            wrong("name", format!("{} is the name of a built-in plugin; choose another one", document.name));
        }
        if !VERSION_BYTES.contains(&document.version.len()) {
            wrong("version", "must have 1 to 40 bytes".to_owned());
        }
        if document.description.len() > DESCRIPTION_BYTES_MAX {
            wrong("description", format!("must have at most {DESCRIPTION_BYTES_MAX} bytes"));
        }
        let (event_types, wants_published) = event_types(&document).unwrap_or_else(|mut found| {
            errors.append(&mut found);
            Default::default()
        });
        let schema = compile_schema(&document.settings_schema).map_err(|error| errors.push(error)).ok();
        if let Some(schema) = &schema {
            errors.extend(check(schema, &document.settings_schema, &document.default_settings, "defaultSettings"));
        }
        match (input, schema) {
            (Some(input), Some(schema)) if errors.is_empty() => {
                Ok(Self { document, input, event_types, wants_published, schema })
            }
            _ => Err(errors),
        }
    }

    /// Checks settings against the manifest's schema; paths begin with `settings`.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check_settings(&self, settings: &Value) -> Result<(), Vec<FieldError>> {
        let errors = check(&self.schema, &self.document.settings_schema, settings, "settings");
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// The names that manifests cannot have.
fn builtin_names() -> Vec<&'static str> {
    struct Names(Vec<&'static str>);
    impl PluginVisitor for Names {
        fn visit<P: Plugin>(&mut self) {
            self.0.push(P::NAME);
        }
    }
    // What Tillstream itself writes bears this name.
    let mut names = Names(vec!["tillstream"]);
    visit_all(&mut names);
    names.0
}

/// The wanted event types, and whether some are published by plugins.
fn event_types(document: &ManifestDocument) -> Result<(EventTypes, bool), Vec<FieldError>> {
    if !EVENT_TYPES.contains(&document.event_types.len()) {
        return Err(vec![FieldError::new("eventTypes", "must name 1 to 64 event types")]);
    }
    let known = || EventType::ALL.iter().filter(|kind| kind.class() != EventClass::Internal);
    let (mut types, mut published, mut errors) = (EventTypes::default(), false, Vec::new());
    for (index, name) in document.event_types.iter().enumerate() {
        let mut wrong = |message| errors.push(FieldError::new(format!("eventTypes[{index}]"), message));
        let Some(kind) = known().find(|kind| kind.as_str() == name) else {
            let near = nearest(name, known().map(|kind| kind.as_str()));
            let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            wrong(format!("{name:?} is no event type that Tillstream knows{hint}"));
            continue;
        };
        if kind.class() == EventClass::Plugin {
            published = true;
            if document.scope != Scope::Terminal {
                wrong(format!("{name} is published by plugins; such events come with scope terminal only"));
            }
        }
        types = types.with(*kind);
    }
    if errors.is_empty() { Ok((types, published)) } else { Err(errors) }
}

fn compile_schema(schema: &Value) -> Result<Validator, FieldError> {
    let wrong = |message: String| FieldError::new("settingsSchema", message);
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(wrong("must have \"type\": \"object\"".to_owned()));
    }
    check_references(schema)?;
    // Patterns come from outside: an engine without backtracking takes bounded time for each.
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| wrong(error.to_string().chars().take(300).collect()))
}

/// Refuses references that leave the document, and definitions that need themselves: checking settings must end.
fn check_references(schema: &Value) -> Result<(), FieldError> {
    let wrong = |message: String| FieldError::new("settingsSchema", message);
    let empty = serde_json::Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, definition) in definitions {
        needs.insert(name, references(definition).map_err(wrong)?);
    }
    let mut from_root = Vec::new();
    for (key, part) in schema.as_object().into_iter().flatten() {
        if key == "$ref" {
            return Err(wrong("must not be a reference itself".to_owned()));
        }
        if key != "$defs" {
            from_root.extend(references(part).map_err(wrong)?);
        }
    }
    for name in from_root.iter().chain(needs.values().flatten()) {
        if !definitions.contains_key(*name) {
            return Err(wrong(format!("refers to #/$defs/{name}, which is not there")));
        }
    }
    // Definitions that need nothing which is left: what remains needs itself.
    while let Some(done) = needs.iter().find(|(_, of)| of.is_empty()).map(|(name, _)| *name) {
        needs.remove(done);
        for of in needs.values_mut() {
            of.retain(|name| *name != done);
        }
    }
    match needs.keys().next() {
        None => Ok(()),
        Some(name) => Err(wrong(format!("#/$defs/{name} refers to itself, or to one that does"))),
    }
}

/// The names of the definitions that a part of a schema refers to.
fn references(part: &Value) -> Result<Vec<&str>, String> {
    let mut found = Vec::new();
    let mut open = vec![part];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(object) => {
                for (key, value) in object {
                    match (key.as_str(), value) {
                        ("$dynamicRef" | "$recursiveRef" | "$id" | "$anchor" | "$dynamicAnchor", Value::String(_)) => {
                            return Err(format!("must not use {key}"));
                        }
                        ("$ref", Value::String(target)) => match target.strip_prefix("#/$defs/") {
                            Some(name) if !name.contains('/') => found.push(name),
                            _ => return Err(format!("refers to {target}; only #/$defs/NAME is followed")),
                        },
                        _ => open.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(with: &Value) -> Value {
        let mut manifest = json!({
            "protocol": 1, "name": "till-anomaly", "version": "1.0.0", "description": "Reports what deviates.",
            "scope": "terminal", "eventTypes": ["pos.payment.completed"],
            "settingsSchema": {"type": "object", "properties": {"threshold": {"type": "number", "minimum": 1}},
                "required": ["threshold"], "additionalProperties": false},
            "defaultSettings": {"threshold": 4},
        });
        manifest.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        manifest
    }

    #[test]
    fn settings_are_checked_against_the_schema_of_the_manifest() {
        let manifest = Manifest::compile(&manifest(&json!({}))).unwrap();
        assert_eq!(manifest.check_settings(&json!({"threshold": 2})), Ok(()));
        let errors = manifest.check_settings(&json!({"threshold": 0, "treshold": 1})).unwrap_err();
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(texts.contains(&"settings.threshold: is 0; must be at least 1".to_owned()), "{texts:?}");
        assert!(
            texts.contains(&"settings.treshold: is not a known key; did you mean threshold?".to_owned()),
            "{texts:?}"
        );
    }

    #[test]
    fn a_schema_that_could_keep_the_checker_busy_for_ever_is_refused() {
        let node = json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}});
        for (schema, expected) in [
            (json!({"type": "object", "$ref": "#"}), "a reference itself"),
            (json!({"type": "object", "allOf": [{"$ref": "#"}]}), "only #/$defs/NAME"),
            (
                json!({"type": "object", "properties": {"a": {"$ref": "https://example.com/a.json"}}}),
                "only #/$defs/NAME",
            ),
            (json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}), "not there"),
            (
                json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}),
                "itself",
            ),
            (json!({"type": "object", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}), "itself"),
            (json!({"type": "object", "properties": {"a": {"$dynamicRef": "#x"}}}), "$dynamicRef"),
            (json!({"type": "object", "properties": {"a": {"type": "text"}}}), "text"),
        ] {
            let errors = Manifest::compile(&manifest(&json!({"settingsSchema": schema}))).unwrap_err();
            assert_eq!(errors[0].field, "settingsSchema", "{errors:?}");
            assert!(errors[0].message.contains(expected), "{errors:?}");
        }
        let shared = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}, "b": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "integer"}}});
        let with = json!({"settingsSchema": shared, "defaultSettings": {"a": 1}});
        assert!(Manifest::compile(&manifest(&with)).is_ok());
    }

    #[test]
    fn the_key_of_the_record_is_the_name() {
        let bytes = manifest(&json!({})).to_string();
        assert!(Manifest::parse(Some(b"till-anomaly"), bytes.as_bytes()).is_ok());
        assert_eq!(Manifest::parse(Some(b"other"), bytes.as_bytes()).unwrap_err()[0].field, "name");
        assert_eq!(Manifest::parse(None, bytes.as_bytes()).unwrap_err()[0].field, "name");
        assert!(Manifest::parse(Some(b"x"), b"{").unwrap_err()[0].message.starts_with("is no JSON"));
        let long = vec![b' '; MANIFEST_BYTES_MAX + 1];
        assert!(Manifest::parse(Some(b"x"), &long).unwrap_err()[0].message.contains("at most"));
    }
}
