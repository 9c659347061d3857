//! What checking a value against a schema costs, counted without checking it: each schema is walked with each part of the
//! value that it would look at, all alternatives included. The walk ends where the count is over its bound, so it never
//! takes longer than that itself.

use serde_json::{Map, Value};

use super::schema::{definition, inner};

/// Steps that a check may take: a schema that looks at a part of a value, a keyword of it, or some bytes.
const STEPS_MAX: usize = 250_000;
/// Bytes of a text that count as a step.
const BYTES_PER_STEP: usize = 64;
/// A text is looked at by a pattern once for each so many bytes of the pattern.
const PATTERN_BYTES_PER_STEP: usize = 4;

/// A check would take more than its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

/// The steps that checking `value` against `schema` takes at most. References of the schema must be known to end.
pub(super) fn steps(schema: &Value, value: &Value) -> Result<usize, TooMuch> {
    let mut cost = Cost { root: schema, steps: 0 };
    cost.schema(schema, value)?;
    Ok(cost.steps)
}

struct Cost<'a> {
    root: &'a Value,
    steps: usize,
}

impl<'a> Cost<'a> {
    fn add(&mut self, steps: usize) -> Result<(), TooMuch> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX { Err(TooMuch) } else { Ok(()) }
    }

    fn schema(&mut self, schema: &'a Value, value: &Value) -> Result<(), TooMuch> {
        self.add(1)?;
        let Value::Object(keywords) = schema else {
            return Ok(());
        };
        let before = self.steps;
        self.add(keywords.len())?;
        self.texts(keywords, value)?;
        self.data(keywords, value)?;
        if let Some(definition) = definition(self.root, keywords) {
            self.schema(definition, value)?;
        }
        self.named(keywords, value)?;
        for (keyword, inner) in inner(keywords) {
            self.applied(keyword, inner, value)?;
        }
        // These look at all other keywords again for each entry.
        if keywords.contains_key("unevaluatedProperties") || keywords.contains_key("unevaluatedItems") {
            self.add((self.steps - before).saturating_mul(entries(value)))?;
        }
        Ok(())
    }

    /// Schemas for one entry each.
    fn named(&mut self, keywords: &'a Map<String, Value>, value: &Value) -> Result<(), TooMuch> {
        match (value, keywords.get("properties"), keywords.get("prefixItems")) {
            (Value::Object(object), Some(Value::Object(properties)), _) => {
                self.add(properties.len())?;
                for (name, schema) in properties {
                    if let Some(value) = object.get(name) {
                        self.schema(schema, value)?;
                    }
                }
                Ok(())
            }
            (Value::Array(items), _, Some(Value::Array(schemas))) => {
                items.iter().zip(schemas).try_for_each(|(value, schema)| self.schema(schema, value))
            }
            _ => Ok(()),
        }
    }

    /// One schema inside another, with the parts of the value that it looks at; patterns and the like may meet every entry.
    fn applied(&mut self, keyword: &str, inner: &'a Value, value: &Value) -> Result<(), TooMuch> {
        match (keyword, value) {
            ("patternProperties" | "additionalProperties" | "unevaluatedProperties", Value::Object(object)) => {
                object.values().try_for_each(|value| self.schema(inner, value))
            }
            ("propertyNames", Value::Object(object)) => {
                object.keys().try_for_each(|name| self.schema(inner, &Value::String(name.clone())))
            }
            ("items" | "contains" | "unevaluatedItems", Value::Array(items)) => {
                items.iter().try_for_each(|value| self.schema(inner, value))
            }
            ("allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" | "dependentSchemas" | "dependencies", _) => {
                self.schema(inner, value)
            }
            _ => Ok(()),
        }
    }

    /// Lengths and patterns.
    fn texts(&mut self, keywords: &Map<String, Value>, value: &Value) -> Result<(), TooMuch> {
        let pattern = |pattern: &str, text: &str| text.len() * pattern.len() / PATTERN_BYTES_PER_STEP + 1;
        if let Value::String(text) = value {
            self.add(text.len() / BYTES_PER_STEP)?;
            if let Some(Value::String(of)) = keywords.get("pattern") {
                self.add(pattern(of, text))?;
            }
        }
        if let (Value::Object(object), Some(Value::Object(patterns))) = (value, keywords.get("patternProperties")) {
            for key in object.keys() {
                patterns.keys().try_for_each(|of| self.add(pattern(of, key)))?;
            }
        }
        Ok(())
    }

    /// Keywords that compare the value as a whole.
    fn data(&mut self, keywords: &Map<String, Value>, value: &Value) -> Result<(), TooMuch> {
        for keyword in ["enum", "const"] {
            if let Some(data) = keywords.get(keyword) {
                self.nodes(data)?;
            }
        }
        if keywords.get("uniqueItems") == Some(&Value::Bool(true)) && value.is_array() {
            for _ in 0..4 {
                self.nodes(value)?;
            }
        }
        for keyword in ["required", "dependentRequired"] {
            if let Some(data) = keywords.get(keyword).filter(|_| value.is_object()) {
                self.nodes(data)?;
            }
        }
        Ok(())
    }

    /// The parts of a value.
    fn nodes(&mut self, value: &Value) -> Result<(), TooMuch> {
        match value {
            Value::String(text) => self.add(1 + text.len() / BYTES_PER_STEP),
            Value::Array(items) => {
                self.add(1)?;
                items.iter().try_for_each(|item| self.nodes(item))
            }
            Value::Object(object) => {
                self.add(1 + object.len())?;
                object.values().try_for_each(|value| self.nodes(value))
            }
            _ => self.add(1),
        }
    }
}

fn entries(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(object) => object.len(),
        _ => 0,
    }
}
