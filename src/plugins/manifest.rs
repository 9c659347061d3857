//! What a plugin in another language says of itself: its manifest, checked as a whole before anybody relies on it.
//!
//! The protocol stands in `docs/plugin-protocol.md`. Every fault names its field.

mod cost;
mod schema;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::schema::SettingsSchema;
use super::validate::read;
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
    schema: SettingsSchema,
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
        let schema = SettingsSchema::compile(&document.settings_schema).map_err(|error| errors.push(error)).ok();
        if let Some(schema) = &schema {
            errors.extend(schema.check(&document.settings_schema, &document.default_settings, "defaultSettings"));
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
        let errors = self.schema.check(&self.document.settings_schema, settings, "settings");
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

    fn outcome(schema: &Value, settings: &Value) -> Result<(), String> {
        let with = json!({"settingsSchema": schema, "defaultSettings": settings});
        Manifest::compile(&manifest(&with)).map(drop).map_err(|errors| errors[0].to_string())
    }

    /// Definitions that each refer twice to the next one.
    fn doubling(keyword: &str, levels: usize) -> Value {
        let next = |number: usize| json!({"$ref": format!("#/$defs/d{number}")});
        let twice = |number| match keyword {
            "properties" => json!({"properties": {"a": next(number), "b": next(number)}}),
            "if" => json!({"if": next(number), "then": next(number)}),
            _ => json!({keyword: [next(number), next(number)]}),
        };
        let mut definitions: serde_json::Map<String, Value> =
            (0..levels).map(|number| (format!("d{number}"), twice(number + 1))).collect();
        definitions.insert(format!("d{levels}"), json!({"type": "integer"}));
        json!({"type": "object", "properties": {"a": next(0)}, "$defs": definitions})
    }

    #[test]
    fn what_checking_costs_is_bounded_before_anything_is_checked() {
        for keyword in ["allOf", "anyOf", "oneOf", "prefixItems", "properties", "if"] {
            assert_eq!(outcome(&doubling(keyword, 5), &json!({})), Ok(()), "{keyword}");
            let refused = outcome(&doubling(keyword, 40), &json!({"a": 1})).unwrap_err();
            assert!(
                refused.starts_with("settingsSchema: ") && refused.contains("references counted"),
                "{keyword}: {refused}"
            );
        }
        let chain: serde_json::Map<_, _> = (0..900)
            .map(|number| (format!("d{number}"), json!({"not": {"$ref": format!("#/$defs/d{}", number + 1)}})))
            .collect();
        let mut deep = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": chain});
        deep["$defs"]["d900"] = json!(true);
        assert!(outcome(&deep, &json!({"a": 1})).unwrap_err().contains("levels deep"));
        let patterns: serde_json::Map<_, _> =
            (0..400).map(|number| (format!("^\\p{{L}}{{1,{number}}}$"), json!({}))).collect();
        let patterns = json!({"type": "object", "patternProperties": patterns});
        assert!(outcome(&patterns, &json!({})).unwrap_err().contains("parts"));
        let large = json!({"type": "object", "properties": {"a": {"pattern": "((a{1,1000}){1,1000}){1,1000}"}}});
        assert!(outcome(&large, &json!({})).is_err());
    }

    #[test]
    fn settings_that_cost_too_much_to_check_are_refused_whatever_makes_them_expensive() {
        let list = |items: Value| json!({"type": "object", "properties": {"list": items}});
        let names: Vec<_> = (0..400).map(|number| format!("name-{number}")).collect();
        let each = json!({"properties": {"k": {"const": 1}}});
        for schema in [
            list(json!({"items": {"enum": names}})),
            list(json!({"items": {"anyOf": vec![each.clone(); 300]}})),
            list(json!({"items": true, "unevaluatedItems": false, "anyOf": vec![each; 100]})),
            list(json!({"items": {"pattern": "^(a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q|r|s|t|u|v|w|x|y|z)*$"}})),
            list(json!({"allOf": vec![json!({"uniqueItems": true}); 40]})),
        ] {
            let manifest =
                Manifest::compile(&manifest(&json!({"settingsSchema": schema, "defaultSettings": {}}))).unwrap();
            let settings = json!({"list": vec!["name-399-and-more"; 3_000]});
            let errors = manifest.check_settings(&settings).unwrap_err();
            assert!(errors[0].message.starts_with("takes too long to check"), "{schema}: {errors:?}");
            let few = manifest.check_settings(&json!({"list": ["name-399"]}));
            assert!(few.is_ok() || !few.unwrap_err()[0].message.contains("too long"), "{schema}");
        }
        let plain =
            list(json!({"items": {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"],
            "additionalProperties": false}}));
        let plain = Manifest::compile(&manifest(&json!({"settingsSchema": plain, "defaultSettings": {}}))).unwrap();
        assert_eq!(plain.check_settings(&json!({"list": vec![json!({"sku": "P1"}); 10_000]})), Ok(()));
        let faults = plain.check_settings(&json!({"list": vec![json!({"sku": 1}); 1_000]})).unwrap_err();
        assert_eq!(faults.len(), 101, "{:?}", faults.last());
    }

    #[test]
    fn what_only_looks_like_a_reference_is_data() {
        let property = |schema: Value| {
            json!({"type": "object", "properties": {"a": schema}, "$defs": {
            "a b": {"type": "integer"}, "a/b": {"type": "integer"}, "a~b": {"type": "integer"}, "ä": {"type": "integer"}}})
        };
        for schema in [
            json!({"enum": [{"$ref": "x"}, {"$id": "y"}]}),
            json!({"const": {"$id": "x", "$dynamicRef": "#y"}}),
            json!({"default": {"$ref": "#/nowhere"}}),
            json!({"examples": [{"$anchor": "x", "$ref": "https://example.com/a.json"}]}),
            json!({"type": "object", "properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}}),
            json!({"x-of-their-own": {"$ref": "x"}}),
        ] {
            assert_eq!(outcome(&property(schema.clone()), &json!({})), Ok(()), "{schema}");
        }
        for target in
            ["#/$defs/a%20b", "#/$defs/a~1b", "#/$defs/a~0b", "#/$defs/%C3%A4", "#/%24defs/a%20b", "#/$defs/a%7E1b"]
        {
            let schema = property(json!({"$ref": target}));
            assert_eq!(outcome(&schema, &json!({"a": 1})), Ok(()), "{target}");
            assert!(outcome(&schema, &json!({"a": "x"})).is_err(), "{target} is followed");
        }
        for (schema, expected) in [
            (json!({"$ref": "#/$defs/a%20c"}), "not there"),
            (json!({"$ref": "#/$defs/a/b"}), "only #/$defs/NAME"),
            (json!({"not": {"$id": "https://example.com/x"}}), "must not use $id"),
            (json!({"items": [{"$ref": "other.json"}]}), "only #/$defs/NAME"),
        ] {
            assert!(outcome(&property(schema.clone()), &json!({})).unwrap_err().contains(expected), "{schema}");
        }
        let unknown = json!({"type": "object", "$schema": "https://example.com/none"});
        assert!(outcome(&unknown, &json!({})).unwrap_err().contains("$schema"));
    }
}
