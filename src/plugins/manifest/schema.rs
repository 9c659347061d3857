//! JSON Schemas of strangers: made ready only if that is sure to end soon, and asked only where the answer is.
//!
//! A schema of 3 KB can take 2^40 steps, by definitions that each refer twice to the next one. So before anything else looks
//! at a schema, it is walked with all references followed, and counted; before a value is checked, the same is done with
//! both ([`super::cost`]). Above the bounds a schema is refused, a value is not checked. The shape is free, as far as
//! references stay in `#/$defs` and no definition needs itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

use super::cost::{self, TooMuch};
use crate::plugins::FieldError;
use crate::plugins::validate::{check, check_first};

/// Parts of a schema with all references followed, patterns counted as [`PATTERN_STEPS`] each.
const PARTS_MAX: usize = 10_000;
/// Deepest nesting, with references followed. Bounds the stack.
const DEPTH_MAX: usize = 64;
/// Parts that a pattern counts as: making it ready takes longer than a keyword.
const PATTERN_STEPS: usize = 100;
/// Bytes of a pattern that has been made ready, and of the cache that each use of it may have.
const PATTERN_BYTES_MAX: usize = 128 * 1024;
/// Steps of a check up to which all faults are collected; above, only the first one is.
const ALL_FAULTS_STEPS_MAX: usize = 20_000;
const MESSAGE_LETTERS_MAX: usize = 300;

/// Keywords whose value is a schema.
const SCHEMA: [&str; 11] = [
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is an object of schemas.
const SCHEMAS_BY_NAME: [&str; 4] = ["dependencies", "dependentSchemas", "patternProperties", "properties"];
/// Keywords whose value is a list of schemas. An old schema may have one of `items`.
const SCHEMA_LISTS: [&str; 5] = ["allOf", "anyOf", "items", "oneOf", "prefixItems"];

/// A schema that was made ready.
#[derive(Debug)]
pub(super) struct SettingsSchema {
    validator: Validator,
}

impl SettingsSchema {
    /// Makes a schema ready.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn compile(schema: &Value) -> Result<Self, FieldError> {
        let wrong = |message: String| FieldError::new("settingsSchema", message);
        if schema.get("type").and_then(Value::as_str) != Some("object") {
            return Err(wrong("must have \"type\": \"object\"".to_owned()));
        }
        check_draft(schema).map_err(wrong)?;
        check_references(schema).map_err(wrong)?;
        Parts { root: schema, count: 0 }.add(schema, 0).map_err(wrong)?;
        // Patterns come from outside: an engine without backtracking takes time by the length of the text, and no pattern may be large.
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(patterns)
            .build(schema)
            .map_err(|error| wrong(error.to_string().chars().take(MESSAGE_LETTERS_MAX).collect()))?;
        Ok(Self { validator })
    }

    /// Checks a value against the schema, which is the one that was made ready; paths begin with `root`.
    pub(super) fn check(&self, schema: &Value, value: &Value, root: &str) -> Vec<FieldError> {
        match cost::steps(schema, value) {
            Ok(steps) if steps <= ALL_FAULTS_STEPS_MAX => check(&self.validator, schema, value, root),
            Ok(_) => check_first(&self.validator, schema, value, root),
            Err(TooMuch) => vec![FieldError::new(
                root,
                "takes too long to check against the plugin's schema; use fewer entries, or a schema with fewer references and alternatives",
            )],
        }
    }
}

/// Every schema is read as draft 2020-12; one that names a language of its own is not for us.
fn check_draft(schema: &Value) -> Result<(), String> {
    match schema.get("$schema") {
        None => Ok(()),
        Some(Value::String(uri)) => {
            let known =
                ["https://json-schema.org/", "http://json-schema.org/"].iter().any(|known| uri.starts_with(known));
            if known {
                Ok(())
            } else {
                Err("names a $schema that is not known; leave it out, the schema is read as JSON Schema 2020-12"
                    .to_owned())
            }
        }
        Some(_) => Err("has a $schema that is not a text; leave it out".to_owned()),
    }
}

/// The schemas directly inside a schema, with the keyword under which each stands. What only looks like one, in `enum`,
/// `const`, `default` or `examples`, is data.
pub(super) fn inner(schema: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    schema.iter().flat_map(|(keyword, value)| {
        let name = keyword.as_str();
        let found: Vec<&Value> = match value {
            Value::Array(items) if SCHEMA_LISTS.contains(&name) => items.iter().collect(),
            Value::Object(by_name) if SCHEMAS_BY_NAME.contains(&name) => by_name.values().collect(),
            Value::Object(_) | Value::Bool(_) if SCHEMA.contains(&name) => vec![value],
            _ => Vec::new(),
        };
        found.into_iter().filter(|value| value.is_object() || value.is_boolean()).map(move |value| (name, value))
    })
}

/// The definition that a reference names.
///
/// # Errors
/// If it leads elsewhere than to `#/$defs/NAME`.
pub(super) fn referenced(target: &str) -> Result<Cow<'_, str>, String> {
    let elsewhere = || format!("refers to {target}; only #/$defs/NAME is followed");
    let fragment = target.strip_prefix('#').ok_or_else(elsewhere)?;
    let pointer = percent_encoding::percent_decode_str(fragment).decode_utf8().map_err(|_| elsewhere())?;
    let name = pointer.strip_prefix("/$defs/").filter(|name| !name.contains('/')).ok_or_else(elsewhere)?;
    Ok(Cow::Owned(name.replace("~1", "/").replace("~0", "~")))
}

/// Refuses references that leave the document, and definitions that need themselves: checking settings must end.
fn check_references(schema: &Value) -> Result<(), String> {
    let empty = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
    let mut needs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, definition) in definitions {
        needs.insert(name, references(definition)?);
    }
    if schema.get("$ref").is_some() {
        return Err("must not be a reference itself".to_owned());
    }
    let from_root = references(schema)?;
    for name in from_root.iter().chain(needs.values().flatten()) {
        if !definitions.contains_key(name.as_str()) {
            return Err(format!("refers to #/$defs/{name}, which is not there"));
        }
    }
    // Definitions that need nothing which is left: what remains needs itself.
    while let Some(done) = needs.iter().find(|(_, of)| of.is_empty()).map(|(name, _)| *name) {
        needs.remove(done);
        for of in needs.values_mut() {
            of.retain(|name| name != done);
        }
    }
    match needs.keys().next() {
        None => Ok(()),
        Some(name) => Err(format!("#/$defs/{name} refers to itself, or to one that does")),
    }
}

/// The names of the definitions that a schema refers to.
fn references(schema: &Value) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut open = vec![schema];
    while let Some(schema) = open.pop() {
        let Value::Object(schema) = schema else {
            continue;
        };
        for (keyword, value) in schema {
            match (keyword.as_str(), value) {
                ("$dynamicRef" | "$recursiveRef" | "$id" | "$anchor" | "$dynamicAnchor", Value::String(_)) => {
                    return Err(format!("must not use {keyword}"));
                }
                ("$ref", Value::String(target)) => found.push(referenced(target)?.into_owned()),
                _ => {}
            }
        }
        open.extend(inner(schema).map(|(_, inner)| inner));
    }
    Ok(found)
}

/// Counts the parts of a schema with all references followed.
struct Parts<'a> {
    root: &'a Value,
    count: usize,
}

impl<'a> Parts<'a> {
    fn add(&mut self, schema: &'a Value, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("is more than {DEPTH_MAX} levels deep, references counted; make it flatter"));
        }
        self.count(1)?;
        let Value::Object(keywords) = schema else {
            return Ok(());
        };
        self.count(keywords.len())?;
        if keywords.get("pattern").is_some_and(Value::is_string) {
            self.count(PATTERN_STEPS)?;
        }
        if let Some(patterns) = keywords.get("patternProperties").and_then(Value::as_object) {
            self.count(patterns.len() * PATTERN_STEPS)?;
        }
        for (_, inner) in inner(keywords) {
            self.add(inner, depth + 1)?;
        }
        match definition(self.root, keywords) {
            Some(definition) => self.add(definition, depth + 1),
            None => Ok(()),
        }
    }

    fn count(&mut self, parts: usize) -> Result<(), String> {
        self.count = self.count.saturating_add(parts);
        if self.count > PARTS_MAX {
            let message =
                format!("has more than {PARTS_MAX} parts, references counted; use fewer references or patterns");
            return Err(message);
        }
        Ok(())
    }
}

/// What the `$ref` of a schema leads to.
pub(super) fn definition<'a>(root: &'a Value, schema: &Map<String, Value>) -> Option<&'a Value> {
    let name = referenced(schema.get("$ref")?.as_str()?).ok()?;
    root.get("$defs")?.get(&*name)
}
