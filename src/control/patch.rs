//! A person's change as a JSON Merge Patch (RFC 7396) on what is in force: nothing is stored and nothing is validated here.

use serde_json::{Value, json};

use super::ChangeError;
use crate::plugins::nearest;
use crate::store::model::{ExternalRow, PluginRow, WhileOff};
use crate::stores::FieldError;

/// What a person can change of a plugin.
const CHANGEABLE: [&str; 3] = ["active", "eligibility", "settings"];
/// What a person can change only of a plugin in another language: what becomes of its input while it is off.
const WHILE_OFF: &str = "whileOff";

/// The row with a merge patch applied.
pub(super) fn patched(old: &PluginRow, patch: &Value) -> Result<(bool, Value, Value), ChangeError> {
    let Value::Object(patch) = patch else {
        return Err(ChangeError::Invalid(vec![FieldError::new(
            "",
            "is not an object with active, eligibility or settings",
        )]));
    };
    let mut errors = Vec::new();
    let is_known = |key: &str| CHANGEABLE.contains(&key) || (key == WHILE_OFF && old.external.is_some());
    for key in patch.keys().filter(|key| !is_known(key)) {
        let hint = nearest(key, CHANGEABLE).map_or_else(|| CHANGEABLE.join(", "), ToOwned::to_owned);
        errors.push(FieldError::new(key, format!("cannot be changed; did you mean {hint}?")));
    }
    let active = match patch.get("active") {
        None => old.active,
        Some(Value::Bool(active)) => *active,
        Some(_) => {
            errors.push(FieldError::new("active", "is not true or false"));
            old.active
        }
    };
    if !errors.is_empty() {
        return Err(ChangeError::Invalid(errors));
    }
    let merged = |old: &Value, key: &str| {
        let mut value = old.clone();
        if let Some(patch) = patch.get(key) {
            merge(&mut value, patch);
        }
        value
    };
    Ok((active, merged(&old.eligibility, "eligibility"), merged(&old.settings, "settings")))
}

/// What becomes of the input while the plugin is off, with a merge patch applied.
pub(super) fn while_off(old: &ExternalRow, patch: &Value) -> Result<WhileOff, ChangeError> {
    match patch.get(WHILE_OFF) {
        None => Ok(old.while_off),
        Some(value) => value.as_str().and_then(WhileOff::from_name).ok_or_else(|| {
            ChangeError::Invalid(vec![FieldError::new(WHILE_OFF, format!("is {value}; must be wait or skip"))])
        }),
    }
}

/// RFC 7396, JSON Merge Patch.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let object = target.as_object_mut().expect("made one just now");
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::merge;
    use serde_json::json;

    #[test]
    fn a_merge_patch_follows_the_examples_of_the_rfc() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (mut target, patch, result) in cases {
            merge(&mut target, &patch);
            assert_eq!(target, result);
        }
    }
}
