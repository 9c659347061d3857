//! `plugins.yaml`: the stores, and what plugins start with. It only fills what the store of the product does not know yet;
//! where the file is missing a copy that is built in serves.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::eligibility::Eligibility;
use super::validate::{read, validate, validate_eligibility};
use super::{FieldError, Plugin, PluginVisitor, nearest, visit_all};
use crate::stores::{Store, Stores};

const BUILT_IN: &str = include_str!("../../plugins.yaml");

/// What the file says, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// The shops by id.
    pub stores: BTreeMap<String, Store>,
    /// Every built-in plugin by name, those included that the file does not mention.
    pub plugins: BTreeMap<String, PluginDefaults>,
}

/// What a plugin starts with.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginDefaults {
    /// Whether it is switched on.
    pub active: bool,
    /// Which events qualify.
    pub eligibility: Eligibility,
    /// Its settings in full, as JSON.
    pub settings: Value,
}

/// The file cannot be used. Says what is wrong, each fault with its line.
#[derive(Debug, thiserror::Error)]
#[error("{}", faults.iter().map(|fault| format!("{file}{fault}")).collect::<Vec<_>>().join("\n"))]
pub struct DefaultsError {
    /// The file's name.
    pub file: String,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// One thing that is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line in the file, from 1, where it is known.
    pub line: Option<u64>,
    /// Path of the field, or empty.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match self.field.as_str() {
            "" => write!(f, ": {}", self.message),
            field => write!(f, ": {field}: {}", self.message),
        }
    }
}

/// The file as far as it is the same for all plugins.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    stores: BTreeMap<String, Store>,
    #[serde(default)]
    plugins: BTreeMap<String, Block>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Block {
    #[serde(default = "yes")]
    active: bool,
    #[serde(default = "empty")]
    eligibility: Value,
    #[serde(default = "empty")]
    settings: Value,
}

const fn yes() -> bool {
    true
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

impl Defaults {
    /// Reads the file, or the built-in copy if there is none.
    ///
    /// # Errors
    /// Everything that is wrong with the file, or why it cannot be read.
    pub fn load(path: &Path) -> Result<Self, DefaultsError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::built_in()),
            Err(error) => {
                let message = format!("cannot be read: {error}");
                Err(DefaultsError { file, faults: vec![Fault { line: None, field: String::new(), message }] })
            }
        }
    }

    /// The copy that is built in.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN, "plugins.yaml").expect("the built-in plugins.yaml is valid")
    }

    /// Reads the text of the file of that name.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, file: &str) -> Result<Self, DefaultsError> {
        let refuse = |faults| DefaultsError { file: file.to_owned(), faults };
        let tree: Spanned<Tree> = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map(|location| location.line());
            let message = error.without_snippet().to_string();
            refuse(vec![Fault { line, field: String::new(), message }])
        })?;
        Self::check(tree.value.to_json()).map_err(|errors| {
            let faults = errors.into_iter().map(|error| Fault {
                line: tree.value.line_of(&error.field).or(Some(tree.referenced.line())),
                field: error.field,
                message: with_quotes_suggested(error.message),
            });
            refuse(faults.collect())
        })
    }

    fn check(mut value: Value) -> Result<Self, Vec<FieldError>> {
        if value.is_null() {
            value = empty();
        }
        let File { stores, plugins } = read(&value, "")?;
        let mut errors = Stores::new(stores.clone()).err().unwrap_or_default();
        let mut reading = Reading { blocks: plugins, found: BTreeMap::new(), errors: &mut errors };
        visit_all(&mut reading);
        let Reading { blocks, found, .. } = reading;
        for name in blocks.keys() {
            let message = match nearest(name, found.keys().map(String::as_str)) {
                Some(near) => format!("is not a plugin; did you mean {near}?"),
                None => format!("is not a plugin; known are {}", found.keys().cloned().collect::<Vec<_>>().join(", ")),
            };
            errors.push(FieldError::new(format!("plugins.{name}"), message));
        }
        if errors.is_empty() { Ok(Self { stores, plugins: found }) } else { Err(errors) }
    }
}

/// YAML reads words such as NO, on and yes as true or false, and digits as a number: where a text is wanted, the message says
/// that quotes help.
fn with_quotes_suggested(message: String) -> String {
    let Some((value, wanted)) = message.split_once(" is not of type") else {
        return message;
    };
    let is_plain = matches!(value, "true" | "false" | "null") || value.parse::<f64>().is_ok();
    if !is_plain || !wanted.contains("\"string\"") {
        return message;
    }
    let why = match value {
        "true" | "false" => "YAML reads words such as NO, no, off, on and yes as true or false",
        "null" => "YAML reads ~ and null as nothing",
        _ => "YAML reads digits as a number",
    };
    format!("{message}; {why}: put quotes around the text, such as \"NO\"")
}

/// Takes each plugin's block out of the file; what is left belongs to nobody.
struct Reading<'a> {
    blocks: BTreeMap<String, Block>,
    found: BTreeMap<String, PluginDefaults>,
    errors: &'a mut Vec<FieldError>,
}

impl PluginVisitor for Reading<'_> {
    fn visit<P: Plugin>(&mut self) {
        let unmentioned = || Block { active: true, eligibility: empty(), settings: empty() };
        let block = self.blocks.remove(P::NAME).unwrap_or_else(unmentioned);
        let settings = validate::<P>(&block.settings).map(|(settings, _)| settings);
        let eligibility = eligibility_on_top_of(&P::default_eligibility(), block.eligibility);
        let eligibility = validate_eligibility(&eligibility).map(|(eligibility, _)| eligibility);
        match (settings, eligibility) {
            (Ok(settings), Ok(eligibility)) => {
                let settings = serde_json::to_value(settings).expect("settings were read from JSON");
                let defaults = PluginDefaults { active: block.active, eligibility, settings };
                self.found.insert(P::NAME.to_owned(), defaults);
            }
            (settings, eligibility) => {
                let found = settings.err().into_iter().chain(eligibility.err()).flatten();
                self.errors.extend(
                    found.map(|error| FieldError::new(format!("plugins.{}.{}", P::NAME, error.field), error.message)),
                );
            }
        }
    }
}

/// The block of the file; what it does not mention is as the plugin has it by default.
fn eligibility_on_top_of(default: &Eligibility, block: Value) -> Value {
    let Value::Object(block) = block else { return block };
    let mut whole = serde_json::to_value(default).expect("an eligibility block is plain data");
    if let Some(keys) = whole.as_object_mut() {
        keys.extend(block);
    }
    whole
}

/// The file with the line of every key and entry.
#[derive(Debug)]
enum Tree {
    Scalar(Value),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Self)>),
}

impl Tree {
    fn to_json(&self) -> Value {
        match self {
            Self::Scalar(value) => value.clone(),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Map(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.value.clone(), value.to_json())).collect())
            }
        }
    }

    /// The line of the field at that path, or of the nearest thing around it.
    fn line_of(&self, path: &str) -> Option<u64> {
        let path = path.strip_prefix('.').unwrap_or(path);
        match self {
            Self::Scalar(_) => None,
            Self::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                item.value.line_of(rest).or(Some(item.referenced.line()))
            }
            Self::Map(entries) => entries.iter().find_map(|(key, value)| {
                let rest = path.strip_prefix(key.value.as_str())?;
                (rest.is_empty() || rest.starts_with(['.', '[']))
                    .then(|| value.line_of(rest).unwrap_or_else(|| key.referenced.line()))
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> de::Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("YAML that JSON can say as well")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Scalar(Value::Null))
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Scalar(Value::Null))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Scalar(text.into()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Tree::Map(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Defaults::parse(text, "plugins.yaml").unwrap_err().to_string()
    }

    #[test]
    fn the_built_in_file_knows_every_plugin_and_four_stores() {
        let defaults = Defaults::built_in();
        assert_eq!(defaults.plugins.len(), 6);
        assert_eq!(defaults.stores.len(), 4);
        assert_eq!(defaults.plugins["fraud-detection"].settings["rules"].as_array().unwrap().len(), 11);
        assert_eq!(Defaults::load(Path::new("/nowhere/plugins.yaml")).unwrap(), defaults);
    }

    #[test]
    fn an_empty_file_leaves_everything_at_its_default() {
        let defaults = Defaults::parse("", "plugins.yaml").unwrap();
        assert!(defaults.stores.is_empty() && defaults.plugins.values().all(|plugin| plugin.active));
    }

    #[test]
    fn faults_name_file_line_and_the_nearest_key() {
        let rule = "plugins:\n  fraud-detection:\n    settings:\n      rules:\n        - id: a\n          name: A\n          severity: low\n          \
                    scope: employee\n          eventTypes: [pos.drawer.opened]\n          aggregate: {kind: count}\n          windowSeconds: 60\n          limt: 3\n          limit: 3\n";
        for (text, expected) in [
            (
                "plugins:\n  fraud-detektion:\n    active: true\n",
                "plugins.yaml:2: plugins.fraud-detektion: is not a plugin; did you mean fraud-detection?",
            ),
            ("plugin: {}\n", "plugins.yaml:1: plugin: is not a known key; did you mean plugins?"),
            (
                "plugins:\n  customer-lookup:\n    activ: true\n",
                "plugins.yaml:3: plugins.customer-lookup.activ: is not a known key; did you mean active?",
            ),
            (
                "plugins:\n  customer-lookup:\n    active: 3\n",
                "plugins.yaml:3: plugins.customer-lookup.active: 3 is not of type \"boolean\"",
            ),
            (
                rule,
                "plugins.yaml:12: plugins.fraud-detection.settings.rules[0].limt: is not a known key; did you mean limit?",
            ),
            ("stores:\n  S001:\n    name: A\n    timeZone: Europe/Berln\n", "plugins.yaml:4: stores.S001.timeZone: "),
            ("stores:\n  S001:\n    hours:\n      mon: 7-9\n", "plugins.yaml:4: stores.S001.hours.mon: "),
            (
                "stores:\n  S001:\n    jurisdiction: NO\n",
                "plugins.yaml:3: stores.S001.jurisdiction: false is not of types \"null\", \"string\"; YAML reads words such as NO, no, off, on and yes as true or false: put quotes around the text, such as \"NO\"",
            ),
            ("stores:\n  S001:\n    jurisdiction: 47\n", "YAML reads digits as a number: put quotes around the text"),
            (
                "plugins:\n  customer-lookup:\n    eligibility:\n      stores: [0815]\n",
                "YAML reads digits as a number: put quotes around the text",
            ),
            (
                "plugins:\n  age-verification:\n    settings:\n      policies:\n        - jurisdiction: no\n",
                "plugins.yaml:5: plugins.age-verification.settings.policies[0].jurisdiction: false is not of type",
            ),
            ("stores: [\n", "plugins.yaml:"),
            ("- a\n", "plugins.yaml:1: "),
            (
                "plugins:\n  customer-lookup:\n    eligibility:\n      when: event.amuont > 1\n",
                "plugins.yaml:4: plugins.customer-lookup.eligibility.when: 1:",
            ),
        ] {
            let message = refused(text);
            assert!(message.contains(expected), "{text}\n{message}");
        }
    }
}
