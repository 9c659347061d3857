//! `customer-lookup`: asks the remote customer system who the customer of a basket is, and publishes the answer.
//!
//! It decides what to ask and what of the answer may be seen; time-outs, retries, cache and breaker are the dispatcher's.
//! It keeps no state: the request's token carries what the answer needs.

use compact_str::CompactString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{EventTypes, FieldError, Plugin, Subscription, check_range};
use crate::effect::{Effects, HttpRequest, Service};
use crate::event::{
    CustomerEnriched, CustomerIdentified, CustomerLookupFailed, Event, EventData, EventType, Id, Reply, ReplyOutcome,
    Scope, holds_card_number, is_card_number, is_forbidden_key,
};

/// Longest text of a kept field, in characters.
const TEXT_CHARS_MAX: usize = 200;
/// Longest error, in characters.
const ERROR_CHARS_MAX: usize = 100;
/// Longest list of a kept field.
const LIST_ENTRIES_MAX: usize = 10;
/// Most fields that may be kept.
const FIELDS_MAX: usize = 20;
/// Longest name of a field, in bytes.
const FIELD_BYTES_MAX: usize = 64;

/// The plugin.
#[derive(Debug)]
pub struct CustomerLookup;

/// What a manager can set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// How long one attempt may take, in milliseconds.
    #[schemars(range(min = 100, max = 30_000))]
    pub timeout_ms: u64,
    /// How often the customer system is asked before the look-up fails.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// How long an answer is used again for the same customer, in seconds; 0 asks every time.
    #[schemars(range(min = 0, max = 86_400))]
    pub cache_seconds: u64,
    /// The only keys of the customer system's answer that are kept. Dates of birth and card numbers are refused.
    #[schemars(length(min = 1, max = 20), inner(length(min = 1, max = 64)))]
    pub fields: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let fields = ["firstName", "loyaltyTier", "points"].map(str::to_owned).to_vec();
        Self { timeout_ms: 2_000, attempts: 3, cache_seconds: 300, fields }
    }
}

/// What an answer needs to find its basket again.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    basket_id: Id,
    customer_id: Id,
}

/// True for names such as `dateOfBirth`, `date-of-birth` and `CardNumber`, however they are spelled.
fn is_forbidden_field(name: &str) -> bool {
    const FORBIDDEN: [&str; 9] =
        ["cardnumber", "pan", "cvv", "cvc", "trackdata", "dateofbirth", "birthdate", "birthday", "dob"];
    let plain: String =
        name.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    is_forbidden_key(name) || FORBIDDEN.contains(&plain.as_str())
}

impl Plugin for CustomerLookup {
    type State = ();
    type Settings = Settings;
    type Compiled = Settings;
    const NAME: &'static str = "customer-lookup";
    const DESCRIPTION: &'static str =
        "Asks the customer system about an identified customer and publishes what it says.";

    fn compile(settings: &Settings) -> Result<Settings, Vec<FieldError>> {
        let mut errors = Vec::new();
        check_range(&mut errors, "timeoutMs", settings.timeout_ms, 100..=30_000);
        check_range(&mut errors, "attempts", settings.attempts, 1..=10);
        check_range(&mut errors, "cacheSeconds", settings.cache_seconds, 0..=86_400);
        if settings.fields.is_empty() || settings.fields.len() > FIELDS_MAX {
            errors.push(FieldError::new("fields", format!("must name 1 to {FIELDS_MAX} keys")));
        }
        for (index, field) in settings.fields.iter().enumerate() {
            let message = if field.is_empty() || field.len() > FIELD_BYTES_MAX {
                format!("must have 1 to {FIELD_BYTES_MAX} bytes")
            } else if is_forbidden_field(field) {
                "would hold a date of birth or a card number, which Tillstream never keeps; remove it".to_owned()
            } else if settings.fields[..index].contains(field) {
                "is listed twice".to_owned()
            } else {
                continue;
            };
            errors.push(FieldError::new(format!("fields[{index}]"), message));
        }
        if errors.is_empty() { Ok(settings.clone()) } else { Err(errors) }
    }

    fn subscriptions(_: &Settings) -> Vec<Subscription> {
        vec![Subscription { scope: Scope::Terminal, event_types: EventTypes::of(&[EventType::CustomerIdentified]) }]
    }

    fn apply((): &mut (), settings: &Settings, event: &Event, fx: &mut Effects<'_>) {
        let EventData::CustomerIdentified(CustomerIdentified { basket_id, customer_id, .. }) = &event.data else {
            return;
        };
        let token = Token { basket_id: basket_id.clone(), customer_id: customer_id.clone() };
        // No URL can carry these as a segment: they would address something else than a customer.
        if matches!(customer_id.as_str(), "." | "..") {
            fail(token, "invalid_customer_id", fx);
            return;
        }
        fx.call(HttpRequest {
            service: Service::Customers,
            path: customer_id.to_string(),
            token: serde_json::to_string(&token).expect("two strings"),
            timeout_ms: settings.timeout_ms,
            attempts: settings.attempts,
            cache_seconds: settings.cache_seconds,
            keep: settings.fields.clone(),
        });
    }

    fn on_reply((): &mut (), settings: &Settings, reply: &Reply, _: &Event, fx: &mut Effects<'_>) {
        let Ok(token) = serde_json::from_str::<Token>(&reply.token) else {
            fx.log("an answer of the customer system belongs to no basket and was dropped");
            return;
        };
        match &reply.outcome {
            ReplyOutcome::Answered { status: 200..=299, body } => {
                let Token { basket_id, customer_id } = token;
                let customer = kept(body, &settings.fields);
                fx.publish(EventData::CustomerEnriched(CustomerEnriched { basket_id, customer_id, customer }));
            }
            ReplyOutcome::Answered { status: 404, .. } => fail(token, "not_found", fx),
            ReplyOutcome::Answered { status, .. } => fail(token, &format!("status_{status}"), fx),
            ReplyOutcome::Failed { error } => fail(token, error, fx),
        }
    }
}

fn fail(token: Token, error: &str, fx: &mut Effects<'_>) {
    let Token { basket_id, customer_id } = token;
    let error = error.chars().take(ERROR_CHARS_MAX).collect::<CompactString>();
    fx.publish(EventData::CustomerLookupFailed(CustomerLookupFailed { basket_id, customer_id, error }));
}

/// The part of a remote object that may be seen. The remote side is not trusted: it may answer with anything.
fn kept(body: &Map<String, Value>, fields: &[String]) -> Map<String, Value> {
    fields.iter().filter_map(|field| Some((field.clone(), kept_value(body.get(field)?)?))).collect()
}

fn kept_value(value: &Value) -> Option<Value> {
    match value {
        Value::Array(entries) => {
            Some(entries.iter().take(LIST_ENTRIES_MAX).filter_map(kept_scalar).collect::<Vec<_>>().into())
        }
        scalar => kept_scalar(scalar),
    }
}

fn kept_scalar(value: &Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(_) => Some(value.clone()),
        Value::Number(number) => {
            let whole = number.as_f64().map(|number| format!("{number:.0}")).unwrap_or_default();
            let is_card = is_card_number(&number.to_string()) || is_card_number(&whole);
            (!is_card).then(|| value.clone())
        }
        Value::String(text) if holds_card_number(text) => None,
        Value::String(text) => Some(text.chars().take(TEXT_CHARS_MAX).collect::<String>().into()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::effect::Effect;
    use crate::plugins::testing::{Run, at, event, published, wrong_fields};

    fn run(settings: Value) -> Run<CustomerLookup> {
        Run::new(Scope::Terminal, "T0001", settings)
    }

    fn identified(customer: &str) -> Event {
        let data = json!({"basketId": "b1", "employeeId": "E7", "customerId": customer, "method": "card"});
        event("S001/T0001", EventType::CustomerIdentified, at("09:00:00"), &data)
    }

    fn token() -> String {
        json!({"basketId": "b1", "customerId": "C1"}).to_string()
    }

    fn answer(status: u16, body: Value) -> ReplyOutcome {
        ReplyOutcome::Answered { status, body: serde_json::from_value(body).unwrap() }
    }

    #[test]
    fn an_identified_customer_is_looked_up_once_with_the_limits_of_the_settings() {
        let settings = json!({"timeoutMs": 500, "attempts": 2, "cacheSeconds": 0, "fields": ["tier"]});
        let effects = run(settings).apply(&identified("C1"));
        let [Effect::Http(call)] = effects.as_slice() else { panic!("{effects:?}") };
        let HttpRequest { path, timeout_ms, attempts, cache_seconds, keep, token, .. } = &call.request;
        assert_eq!((path.as_str(), *timeout_ms, *attempts, *cache_seconds), ("C1", 500, 2, 0));
        assert_eq!(keep, &["tier"]);
        assert_eq!(serde_json::from_str::<Value>(token).unwrap(), json!({"basketId": "b1", "customerId": "C1"}));
        assert_eq!(call.terminal, "/stores/S001/terminals/T0001");
    }

    #[test]
    fn an_answer_becomes_an_event_about_the_terminal_that_asked() {
        let body = json!({"points": 7, "firstName": "Ada", "other": 1});
        let effects = run(json!({})).reply("S001/T0001", &token(), answer(200, body));
        let [Effect::Publish(event)] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(event.terminal_id(), Some("T0001"));
        assert_eq!(
            event.data.to_value().unwrap(),
            json!({"basketId": "b1", "customerId": "C1", "customer": {"firstName": "Ada", "points": 7}})
        );
    }

    #[test]
    fn what_the_remote_system_must_not_tell_is_dropped() {
        let body = json!({"firstName": "x".repeat(300), "loyaltyTier": {"dateOfBirth": "1990-01-02"},
            "points": ["4111 1111 1111 1111", 4_111_111_111_111_111_u64, 3, null, [1]]});
        let effects = run(json!({})).reply("S001/T0001", &token(), answer(200, body));
        let [EventData::CustomerEnriched(data)] = published(&effects)[..] else { panic!("{effects:?}") };
        assert_eq!(Value::from(data.customer.clone()), json!({"firstName": "x".repeat(200), "points": [3, null]}));
    }

    #[test]
    fn a_look_up_without_a_useful_answer_names_the_cause() {
        let error = |outcome| {
            let effects = run(json!({})).reply("S001/T0001", &token(), outcome);
            let [EventData::CustomerLookupFailed(data)] = published(&effects)[..] else { panic!("{effects:?}") };
            data.error.to_string()
        };
        assert_eq!(error(answer(404, json!({}))), "not_found");
        assert_eq!(error(answer(410, json!({}))), "status_410");
        assert_eq!(error(ReplyOutcome::Failed { error: "timeout".to_owned() }), "timeout");
    }

    #[test]
    fn ids_that_would_address_another_resource_fail_without_a_call() {
        let effects = run(json!({})).apply(&identified(".."));
        assert!(
            matches!(published(&effects)[..], [EventData::CustomerLookupFailed(data)] if data.error == "invalid_customer_id")
        );
        assert_eq!(effects.len(), 1);
    }

    #[test]
    fn wrong_settings_name_their_fields() {
        let wrong = wrong_fields::<CustomerLookup>;
        assert_eq!(wrong(json!({})), [""; 0]);
        assert_eq!(
            wrong(json!({"timeoutMs": 99, "attempts": 0, "cacheSeconds": 86_401, "fields": []})),
            ["timeoutMs", "attempts", "cacheSeconds", "fields"]
        );
        assert_eq!(wrong(json!({"fields": ["tier", "tier", "Date-Of-Birth", "cardNumber", ""]})).len(), 4);
        assert!(serde_json::from_value::<Settings>(json!({"timeout": 1})).is_err());
    }

    proptest! {
        #[test]
        fn whatever_the_remote_system_answers_gives_one_valid_event(
            status in 100_u16..600,
            text in ".*",
            number in any::<f64>(),
        ) {
            let body = json!({"firstName": text, "points": number, "loyaltyTier": [text, {"pan": 1}]});
            let effects = run(json!({})).reply("S001/T0001", &token(), answer(status, body));
            prop_assert_eq!(published(&effects).len(), 1);
        }
    }
}
