//! Validation of what a manager sent: against the JSON Schema that is generated from the code, then by serde, then by the
//! plugin. Errors name the field by its path (`settings.rules[2].limit`) and, for a key that does not exist, the nearest
//! one that does.

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::LocationSegment;
use jsonschema::{ValidationError, Validator};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::eligibility::{CompiledEligibility, Eligibility};
use super::{FieldError, Plugin, nearest};

/// Schemas that are followed in search of the keys that an object may have.
const RESOLVED_MAX: usize = 1000;
/// Path of a plugin's settings in its representation.
const SETTINGS: &str = "settings";
/// Values in a document that is checked.
const VALUES_MAX: usize = 200_000;
/// Values in a document up to which all its faults are collected; above, only the first one is. Each value can have one, and a
/// fault takes a hundred times the memory of a value.
const ALL_FAULTS_VALUES_MAX: usize = 20_000;
/// Most faults that are named at once.
const FAULTS_MAX: usize = 100;
/// Path of a plugin's eligibility in its representation.
const ELIGIBILITY: &str = "eligibility";

/// The full JSON Schema (draft 2020-12) of a type.
#[must_use]
pub fn schema_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// Checks the settings of a plugin and makes them ready.
///
/// # Errors
/// Every field that is wrong, by its path from `settings`.
pub fn validate<P: Plugin>(settings: &Value) -> Result<(P::Settings, P::Compiled), Vec<FieldError>> {
    let settings: P::Settings = read(settings, SETTINGS)?;
    let compiled = P::compile(&settings).map_err(|errors| below(SETTINGS, errors))?;
    Ok((settings, compiled))
}

/// Checks an eligibility block and makes it ready.
///
/// # Errors
/// Every field that is wrong, by its path from `eligibility`.
pub fn validate_eligibility(block: &Value) -> Result<(Eligibility, CompiledEligibility), Vec<FieldError>> {
    let block: Eligibility = read(block, ELIGIBILITY)?;
    let compiled = CompiledEligibility::compile(&block).map_err(|errors| below(ELIGIBILITY, errors))?;
    Ok((block, compiled))
}

fn below(root: &str, errors: Vec<FieldError>) -> Vec<FieldError> {
    let path = |field: &str| if field.is_empty() { root.to_owned() } else { format!("{root}.{field}") };
    errors.into_iter().map(|error| FieldError::new(path(&error.field), error.message)).collect()
}

/// Reads a value of a type that has a schema; paths begin with `root`.
///
/// # Errors
/// Every field that does not fit the schema, or the first that serde refuses.
///
/// # Panics
/// Never: schemas are generated from the code.
pub fn read<T: JsonSchema + DeserializeOwned>(value: &Value, root: &str) -> Result<T, Vec<FieldError>> {
    let schema = schema_of::<T>();
    let validator = Validator::new(&schema).expect("schemas are generated from the code");
    let values = count_values(value, VALUES_MAX);
    if values > VALUES_MAX {
        let message = format!("holds more than {VALUES_MAX} values; that is more than can be checked");
        return Err(vec![FieldError::new(root, message)]);
    }
    let check = if values > ALL_FAULTS_VALUES_MAX { check_first } else { check };
    let errors = check(&validator, &schema, value, root);
    if !errors.is_empty() {
        return Err(errors);
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { root.to_owned() } else { join(root, &path) };
        vec![FieldError::new(field, error.into_inner().to_string())]
    })
}

/// Checks a value against a schema that has been made ready; paths begin with `root`. Answers the fields that do not fit, up
/// to `FAULTS_MAX`.
#[must_use]
pub fn check(validator: &Validator, schema: &Value, value: &Value, root: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for error in validator.iter_errors(value) {
        if errors.len() > FAULTS_MAX {
            break;
        }
        Faults { schema, root, errors: &mut errors }.add(&error);
    }
    // What is wrong in two ways is said once: an empty text is too short, and none that its pattern allows.
    errors.dedup_by(|next, known| next.field == known.field);
    cut_off(errors, root)
}

/// As [`check`], but only as far as the first fault: for a value so large that all of them would fill the memory.
pub(super) fn check_first(validator: &Validator, schema: &Value, value: &Value, root: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Err(error) = validator.validate(value) {
        Faults { schema, root, errors: &mut errors }.add(&error);
    }
    cut_off(errors, root)
}

/// The values in a document, itself included, counted until there are more than `max`.
fn count_values(value: &Value, max: usize) -> usize {
    let mut count = 0;
    let mut open = vec![value];
    while let Some(value) = open.pop().filter(|_| count <= max) {
        count += 1;
        match value {
            Value::Array(items) => open.extend(items.iter().take(max)),
            Value::Object(object) => open.extend(object.values().take(max)),
            _ => {}
        }
    }
    count
}

/// Nobody reads a thousand faults, and an answer that names them all can be larger than the request by far.
fn cut_off(mut errors: Vec<FieldError>, root: &str) -> Vec<FieldError> {
    if errors.len() > FAULTS_MAX {
        errors.truncate(FAULTS_MAX);
        errors.push(FieldError::new(root, "has more faults than are named here; correct these first"));
    }
    errors
}

fn join(root: &str, path: &str) -> String {
    match (root, path) {
        ("", path) => path.trim_start_matches('.').to_owned(),
        (root, "") => root.to_owned(),
        (root, path) if path.starts_with(['[', '.']) => format!("{root}{path}"),
        (root, path) => format!("{root}.{path}"),
    }
}

/// Turns errors of the schema into errors that people can act on.
struct Faults<'a> {
    schema: &'a Value,
    root: &'a str,
    errors: &'a mut Vec<FieldError>,
}

impl Faults<'_> {
    fn add(&mut self, error: &ValidationError<'_>) {
        let field = self.field(error);
        let message = match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let known = self.known_keys(error);
                for key in unexpected.iter().take(FAULTS_MAX + 1) {
                    let message = match nearest(key, known.iter().map(String::as_str)) {
                        Some(near) => format!("is not a known key; did you mean {near}?"),
                        None => format!("is not a known key; known are {}", known.join(", ")),
                    };
                    self.errors.push(FieldError::new(join(&field, key), message));
                }
                return;
            }
            ValidationErrorKind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                self.errors.push(FieldError::new(join(&field, key), "is missing"));
                return;
            }
            ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
                return self.add_closest(error, context);
            }
            ValidationErrorKind::Enum { options } => {
                let options: Vec<_> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                one_of(error.instance(), &options)
            }
            ValidationErrorKind::Constant { expected_value } => format!("must be {expected_value}"),
            ValidationErrorKind::Minimum { limit } => format!("is {}; must be at least {limit}", error.instance()),
            ValidationErrorKind::Maximum { limit } => format!("is {}; must be at most {limit}", error.instance()),
            ValidationErrorKind::FalseSchema => "has a key, and knows none".to_owned(),
            // A whole list can be wrong; nobody wants to read it back.
            _ => error.to_string().chars().take(300).collect(),
        };
        self.errors.push(FieldError::new(field, message));
    }

    /// Of several forms that a value may have, says what is wrong with the one that was probably meant.
    fn add_closest(&mut self, error: &ValidationError<'_>, forms: &[Vec<ValidationError<'static>>]) {
        let constants: Vec<_> = forms
            .iter()
            .flatten()
            .flat_map(|error| match error.kind() {
                ValidationErrorKind::Constant { expected_value } => vec![expected_value.as_str()],
                ValidationErrorKind::Enum { options } => {
                    options.as_array().into_iter().flatten().map(Value::as_str).collect()
                }
                _ => Vec::new(),
            })
            .flatten()
            .collect();
        if !constants.is_empty() {
            self.errors.push(FieldError::new(self.field(error), one_of(error.instance(), &constants)));
            return;
        }
        let other_type = |errors: &&Vec<ValidationError<'static>>| {
            errors.iter().any(|inner| {
                matches!(inner.kind(), ValidationErrorKind::Type { .. })
                    && inner.instance_path() == error.instance_path()
            })
        };
        match forms.iter().find(|errors| !errors.is_empty() && !other_type(errors)) {
            Some(errors) => errors.iter().for_each(|error| self.add(error)),
            None => match forms.iter().flatten().next() {
                Some(first) => self.add(first),
                None => self.errors.push(FieldError::new(self.field(error), error.to_string())),
            },
        }
    }

    fn field(&self, error: &ValidationError<'_>) -> String {
        error.instance_path().segments().fold(self.root.to_owned(), |path, segment| match segment {
            LocationSegment::Property(name) => join(&path, &name),
            LocationSegment::Index(index) => format!("{path}[{index}]"),
        })
    }

    /// The keys of the object at that place, from the schema.
    fn known_keys(&self, error: &ValidationError<'_>) -> Vec<String> {
        let mut schemas = vec![self.schema];
        for segment in error.instance_path().segments() {
            schemas = self.resolve(schemas);
            schemas = match segment {
                LocationSegment::Property(name) => schemas
                    .iter()
                    .filter_map(|schema| {
                        let properties = schema.get("properties").and_then(|properties| properties.get(&*name));
                        properties.or_else(|| schema.get("additionalProperties"))
                    })
                    .collect(),
                LocationSegment::Index(_) => schemas.iter().filter_map(|schema| schema.get("items")).collect(),
            };
        }
        self.resolve(schemas)
            .iter()
            .filter_map(|schema| schema.get("properties")?.as_object())
            .flat_map(|properties| properties.keys().cloned())
            .collect()
    }

    /// Follows references and alternatives, as far as a hint is worth it.
    fn resolve<'s>(&'s self, schemas: Vec<&'s Value>) -> Vec<&'s Value> {
        let mut found = Vec::new();
        let mut open = schemas;
        while let Some(schema) = open.pop().filter(|_| found.len() < RESOLVED_MAX) {
            if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
                open.extend(reference.strip_prefix('#').and_then(|pointer| self.schema.pointer(pointer)));
            }
            for key in ["anyOf", "oneOf", "allOf"] {
                open.extend(schema.get(key).and_then(Value::as_array).into_iter().flatten());
            }
            found.push(schema);
        }
        found
    }
}

fn one_of(instance: &Value, options: &[&str]) -> String {
    let given = instance.as_str().unwrap_or_default();
    let hint = nearest(given, options.iter().copied()).map(|near| format!("; did you mean {near}?"));
    format!("is {instance}; must be one of {}{}", options.join(", "), hint.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::fraud_detection::FraudDetection;
    use serde_json::json;

    fn rule(with: &Value) -> Value {
        let mut rule = json!({"id": "r", "name": "Rule", "severity": "low", "scope": "employee",
            "eventTypes": ["pos.drawer.opened"], "aggregate": {"kind": "count"}, "windowSeconds": 60, "limit": 2});
        rule.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        json!({"rules": [rule]})
    }

    fn errors(with: &Value) -> Vec<String> {
        match validate::<FraudDetection>(&rule(with)) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn every_wrong_field_is_named_with_what_to_do() {
        for (with, expected) in [
            (json!({"limt": 3}), "settings.rules[0].limt: is not a known key; did you mean limit?"),
            (json!({"limit": "3"}), "settings.rules[0].limit: \"3\" is not of type \"number\""),
            (json!({"limit": -3}), "settings.rules[0].limit: is -3; must be at least 0"),
            (json!({"scope": "employe"}), "settings.rules[0].scope: is \"employe\"; must be one of"),
            (
                json!({"status": "on"}),
                "settings.rules[0].status: is \"on\"; must be one of draft, shadow, active, paused",
            ),
            (json!({"eventTypes": ["pos.drawer.open"]}), "settings.rules[0].eventTypes[0]: is \"pos.drawer.open\""),
            (
                json!({"after": {"eventTypes": ["pos.payment.completed"], "withinSecond": 3}}),
                "settings.rules[0].after.withinSecond",
            ),
            (json!({"after": 3}), "settings.rules[0].after: 3 is not of type"),
            (
                json!({"aggregate": {"kind": "ratio", "numerator": 3}}),
                "settings.rules[0].aggregate.numerator: 3 is not of type",
            ),
            (json!({"minimumAmount": 1.5}), "settings.rules[0].minimumAmount: 1.5 is not of type"),
            (json!({"condition": "event.amount >"}), "settings.rules[0].condition: 1:"),
            (json!({"limit": 900}), "settings.rules[0].limit: must be below 500"),
        ] {
            let errors = errors(&with);
            assert!(errors.iter().any(|error| error.starts_with(expected)), "{with}: {errors:#?}");
        }
        assert_eq!(errors(&json!({"after": null, "cooldownSeconds": null})), Vec::<String>::new());
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let errors = validate::<FraudDetection>(&json!({"rules": [{"id": "r"}], "rule": []})).err().unwrap();
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert!(fields.contains(&"settings.rule") && fields.contains(&"settings.rules[0].limit"), "{fields:?}");
        assert_eq!(validate::<FraudDetection>(&json!([])).err().unwrap()[0].field, "settings");
    }

    #[test]
    fn eligibility_has_the_same_treatment() {
        let error = |block: &Value| validate_eligibility(block).err().unwrap()[0].to_string();
        assert_eq!(error(&json!({"store": ["S001"]})), "eligibility.store: is not a known key; did you mean stores?");
        assert!(error(&json!({"hours": {"mon": "7-9"}})).starts_with("eligibility.hours.mon: "));
        assert!(error(&json!({"hours": {"mon": "07:00-29:00"}})).starts_with("eligibility.hours.mon: "));
        assert!(error(&json!({"hours": {"monday": "07:00-09:00"}})).contains("did you mean mon?"));
        assert!(error(&json!({"when": "event.amuont > 3"})).starts_with("eligibility.when: 1:"));
        assert!(validate_eligibility(&json!({"minimumAmount": null, "when": null})).is_ok());
    }
}
