//! Eligibility: which events qualify for a plugin. Every plugin has the same block; cheap filters first, CEL last.
//!
//! Every event passes here once per plugin, so an empty block costs one comparison.

use rustc_hash::FxHashSet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::expression::{EventView, Expression, Failure};
use super::{EventTypes, nearest};
use crate::event::{Event, EventClass, EventType, Scope};
use crate::plugins::FieldError;
use crate::stores::{Stores, WeeklyHours};

/// Which events qualify. Empty lists mean all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Eligibility {
    /// Only these event types.
    #[schemars(schema_with = "event_types_schema")]
    pub event_types: Vec<String>,
    /// Only these stores.
    pub stores: Vec<String>,
    /// Only these terminals.
    pub terminals: Vec<String>,
    /// Only these employees.
    pub employees: Vec<String>,
    /// Only items of these categories; events without a category are not affected.
    pub categories: Vec<String>,
    /// Only events of at least this amount in minor units; events without an amount are not affected.
    #[schemars(range(min = 0))]
    pub minimum_amount: Option<i64>,
    /// True: training events qualify as well.
    pub training: bool,
    /// Only within these hours of the store's local time.
    pub hours: Option<WeeklyHours>,
    /// CEL expression over `event`; must be true.
    pub when: Option<String>,
}

/// The names of the event types that terminals and plugins publish.
pub(super) fn event_type_names(class: impl Fn(EventClass) -> bool) -> impl Iterator<Item = &'static str> {
    EventType::ALL.iter().filter(move |kind| class(kind.class())).map(|kind| kind.as_str())
}

/// A list of event types that terminals send, for forms and for validation.
pub(super) fn event_types_schema(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<_> = event_type_names(|class| class == EventClass::Terminal).collect();
    json_schema!({"type": "array", "items": {"type": "string", "enum": names}})
}

/// The set of these event types.
///
/// # Errors
/// One for each name that is not a type of event that terminals send, at `path[index]`.
pub(super) fn event_types(names: &[String], path: &str) -> Result<EventTypes, Vec<FieldError>> {
    let mut types = EventTypes::default();
    let mut errors = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let kind = EventType::from_name(name);
        if kind != EventType::Unknown && kind.class() == EventClass::Terminal {
            types = types.with(kind);
            continue;
        }
        let known = || event_type_names(|class| class == EventClass::Terminal);
        let message = match nearest(name, known()) {
            Some(near) => format!("{name:?} is not an event type that terminals send; did you mean {near}?"),
            None => {
                format!("{name:?} is not an event type that terminals send, such as {}", EventType::ItemAdded.as_str())
            }
        };
        errors.push(FieldError::new(format!("{path}[{index}]"), message));
    }
    if errors.is_empty() { Ok(types) } else { Err(errors) }
}

/// A checked [`Eligibility`].
#[derive(Debug)]
pub struct CompiledEligibility {
    training: bool,
    /// Everything but `training`; absent if the block asks for nothing else.
    filters: Option<Box<Filters>>,
}

#[derive(Debug)]
struct Filters {
    event_types: Option<EventTypes>,
    stores: FxHashSet<String>,
    terminals: FxHashSet<String>,
    employees: FxHashSet<String>,
    categories: FxHashSet<String>,
    minimum_amount: Option<i64>,
    hours: Option<WeeklyHours>,
    when: Option<Expression>,
}

impl CompiledEligibility {
    /// Checks a block.
    ///
    /// # Errors
    /// Every field that is wrong, with paths relative to the block (`when`).
    pub fn compile(block: &Eligibility) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let types = event_types(&block.event_types, "eventTypes").unwrap_or_else(|mut found| {
            errors.append(&mut found);
            EventTypes::default()
        });
        let when = block.when.as_deref().and_then(|text| {
            Expression::compile(text).map_err(|message| errors.push(FieldError::new("when", message))).ok()
        });
        if block.minimum_amount.is_some_and(|amount| amount < 0) {
            errors.push(FieldError::new("minimumAmount", "must be 0 or more, in minor units"));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let unrestricted = Eligibility { training: block.training, ..Eligibility::default() };
        let set = |ids: &[String]| ids.iter().cloned().collect();
        let filters = (*block != unrestricted).then(|| {
            Box::new(Filters {
                event_types: (!block.event_types.is_empty()).then_some(types),
                stores: set(&block.stores),
                terminals: set(&block.terminals),
                employees: set(&block.employees),
                categories: set(&block.categories),
                minimum_amount: block.minimum_amount,
                hours: block.hours.clone(),
                when,
            })
        });
        Ok(Self { training: block.training, filters })
    }

    /// True if the event qualifies; a failure of the CEL expression counts as no, and is told.
    ///
    /// # Errors
    /// Why the CEL expression gives no answer.
    #[inline]
    pub fn qualifies(&self, event: &Event, stores: &Stores) -> Result<bool, Failure> {
        if event.training && !self.training {
            return Ok(false);
        }
        match &self.filters {
            None => Ok(true),
            Some(filters) => filters.pass(event, stores),
        }
    }
}

impl Filters {
    fn pass(&self, event: &Event, stores: &Stores) -> Result<bool, Failure> {
        let listed =
            |ids: &FxHashSet<String>, id: Option<&str>| ids.is_empty() || id.is_some_and(|id| ids.contains(id));
        let cheap = self.event_types.is_none_or(|types| types.contains(event.event_type()))
            && listed(&self.stores, event.store_id())
            && listed(&self.terminals, event.terminal_id())
            && listed(&self.employees, event.entity(Scope::Employee))
            && event.data.category().is_none_or(|category| listed(&self.categories, Some(category)))
            && self.minimum_amount.is_none_or(|minimum| event.data.amount().is_none_or(|amount| amount >= minimum))
            && self
                .hours
                .as_ref()
                .is_none_or(|hours| hours.contains(stores.local(event.store_id().unwrap_or_default(), event.time)));
        match &self.when {
            Some(when) if cheap => when.matches(&EventView::new(event, stores)),
            _ => Ok(cheap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;
    use crate::time::Timestamp;
    use serde_json::{Value, json};

    fn compile(block: &Value) -> Result<CompiledEligibility, Vec<FieldError>> {
        CompiledEligibility::compile(&serde_json::from_value(block.clone()).unwrap())
    }

    fn item(time: &str) -> Event {
        let data = json!({"basketId": "B1", "employeeId": "E7", "line": 1, "productId": "P1", "category": "wine",
            "quantity": 2, "unitPrice": 450, "currency": "EUR"});
        let time = Timestamp::parse(time).unwrap();
        NewEvent::new("1", "/stores/S001/terminals/T1", EventType::ItemAdded, time, data).to_event()
    }

    fn qualifies(block: &Value) -> Result<bool, Failure> {
        let stores = json!({"S001": {"timeZone": "Europe/Berlin"}});
        let stores = Stores::new(serde_json::from_value(stores).unwrap()).unwrap();
        compile(block).unwrap().qualifies(&item("2026-01-05T21:30:00Z"), &stores)
    }

    #[test]
    fn every_filter_lets_through_what_it_names_and_nothing_else() {
        let pairs = [
            json!({"eventTypes": ["pos.basket.item_added"], "stores": ["S001"], "terminals": ["T1"], "employees": ["E7"]}),
            json!({"eventTypes": ["pos.basket.started"]}),
            json!({"categories": ["wine", "beer"], "minimumAmount": 900}),
            json!({"minimumAmount": 901}),
            json!({"hours": {"mon": "22:00-02:00"}}),
            json!({"hours": {"mon": "07:00-21:00"}}),
            json!({"when": "event.data.category == 'wine' && event.localHour == 22"}),
            json!({"when": "event.amount > 1000"}),
            json!({}),
            json!({"stores": ["S002"]}),
            json!({"training": true}),
            json!({"employees": ["e7"]}),
        ];
        for pair in pairs.chunks(2) {
            assert_eq!(qualifies(&pair[0]), Ok(true), "{}", pair[0]);
            assert_eq!(qualifies(&pair[1]), Ok(false), "{}", pair[1]);
        }
    }

    #[test]
    fn training_events_qualify_only_where_the_block_says_so() {
        let mut event = item("2026-01-05T10:00:00Z");
        event.training = true;
        let stores = Stores::default();
        assert_eq!(compile(&json!({})).unwrap().qualifies(&event, &stores), Ok(false));
        assert_eq!(compile(&json!({"training": true})).unwrap().qualifies(&event, &stores), Ok(true));
    }

    #[test]
    fn an_expression_that_fails_is_told_and_counts_as_no() {
        assert!(qualifies(&json!({"when": "event.data.nothing == 1"})).unwrap_err().to_string().contains("nothing"));
        assert_eq!(qualifies(&json!({"stores": ["S002"], "when": "event.data.nothing == 1"})), Ok(false));
    }

    #[test]
    fn faults_name_the_field_the_place_and_the_nearest_name() {
        let errors = compile(&json!({"eventTypes": ["pos.basket.item_add"], "when": "event.amount >"})).unwrap_err();
        assert_eq!(errors[0].field, "eventTypes[0]");
        assert!(errors[0].message.contains("pos.basket.item_added"), "{}", errors[0]);
        assert_eq!(errors[1].field, "when");
        assert!(errors[1].message.starts_with("1:"), "{}", errors[1]);
    }
}
