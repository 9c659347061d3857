//! What `fraud-detection` must report, from `docs/fraud-rules.md`.
//!
//! Rules come as JSON from the settings. CEL is left out: the default rules do without.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::event::Event;
use super::log::Log;
use super::stores::Stores;

const ENTRIES_MAX: usize = 500;
const BUCKETS_MAX: usize = 48;
const PRECEDING_MAX: usize = 64;
const EVIDENCE_MAX: usize = 100;

/// An alert, by what it says.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub(crate) struct Alert {
    pub(crate) rule: String,
    pub(crate) scope: String,
    pub(crate) entity: String,
    /// Time of the event that completed the pattern, in milliseconds.
    pub(crate) at: i64,
    pub(crate) severity: String,
    pub(crate) store: String,
    pub(crate) terminal: Option<String>,
    pub(crate) employee: Option<String>,
    pub(crate) observed: f64,
    pub(crate) limit: f64,
    /// In their order.
    pub(crate) event_ids: Vec<String>,
}

impl Alert {
    /// What the derived event says of it: store, terminal and employee are only in the stored record.
    pub(crate) fn as_published(&self) -> Self {
        Self { store: String::new(), terminal: None, employee: None, ..self.clone() }
    }
}

/// Every alert of these rules over the log.
pub(crate) fn alerts(log: &Log, settings: &Value, stores: &Stores) -> Vec<Alert> {
    let rules = settings["rules"].as_array().expect("a list of rules");
    let mut alerts = Vec::new();
    for rule in rules.iter().map(Rule::new).filter(|rule| rule.fires_alerts) {
        let mut entities: HashMap<String, Memory> = HashMap::new();
        let events = if rule.scope == "terminal" { log.events.iter().collect() } else { log.across_tills() };
        for event in events.into_iter().filter(|event| !event.training) {
            if let Some(entity) = entity(&rule.scope, event) {
                let memory = entities.entry(entity.to_owned()).or_default();
                alerts.extend(rule.see(memory, event, entity, stores));
            }
        }
    }
    alerts
}

/// The entity of that scope that the event names.
fn entity<'a>(scope: &str, event: &'a Event) -> Option<&'a str> {
    let kind = event.kind.as_str();
    match scope {
        "terminal" => Some(&event.terminal),
        "employee" => event.text("employeeId"),
        "customer" if matches!(kind, "pos.customer.identified" | "pos.payment.completed") => event.text("customerId"),
        "card" if matches!(kind, "pos.payment.completed" | "pos.refund.completed") => event.text("cardToken"),
        _ => None,
    }
}

/// What one rule remembers of one entity.
#[derive(Default)]
struct Memory {
    /// Sorted by time, then by arrival.
    entries: Vec<Entry>,
    /// Counts by bucket number.
    buckets: BTreeMap<i64, u64>,
    /// Sorted by time, then by arrival.
    preceding: Vec<Preceding>,
    /// Time of the event that raised the last alert.
    last_alert: Option<i64>,
}

#[derive(Clone)]
struct Entry {
    time: i64,
    name: String,
    antecedent: Option<String>,
    value: Value,
    /// For ratios: its type is one of `eventTypes`.
    in_base: bool,
}

struct Preceding {
    time: i64,
    key: String,
    name: String,
}

enum Aggregate {
    Count,
    Sum(String),
    Distinct(String),
    /// The numerator's event types.
    Ratio(Vec<String>),
}

struct After {
    event_types: Vec<String>,
    within: i64,
    same: String,
}

struct Rule {
    id: String,
    severity: String,
    scope: String,
    event_types: Vec<String>,
    minimum_amount: Option<i64>,
    receipt: Option<bool>,
    manual: Option<bool>,
    direction: Option<String>,
    store_open: Option<bool>,
    after: Option<After>,
    aggregate: Aggregate,
    /// Milliseconds.
    window: i64,
    limit: f64,
    minimum_sample: u64,
    /// Milliseconds.
    cooldown: i64,
    fires_alerts: bool,
}

fn texts(list: &Value) -> Vec<String> {
    match list {
        Value::String(one) => vec![one.clone()],
        list => list.as_array().expect("a list").iter().map(|item| item.as_str().expect("a text").to_owned()).collect(),
    }
}

impl Rule {
    fn new(rule: &Value) -> Self {
        let text = |key: &str| rule[key].as_str().expect("a text").to_owned();
        let millis = |value: &Value| value.as_i64().map(|seconds| seconds * 1000);
        assert!(rule.get("condition").is_none_or(Value::is_null), "the oracle knows no CEL: {rule}");
        let aggregate = &rule["aggregate"];
        let of = || aggregate["of"].as_str().expect("a text").to_owned();
        let aggregate = match aggregate["kind"].as_str().expect("a text") {
            "count" => Aggregate::Count,
            "sum" => Aggregate::Sum(of()),
            "distinct" => Aggregate::Distinct(of()),
            "ratio" => Aggregate::Ratio(texts(&aggregate["numerator"])),
            kind => panic!("unknown aggregate {kind}"),
        };
        let window = millis(&rule["windowSeconds"]).expect("a number of seconds");
        Self {
            id: text("id"),
            severity: text("severity"),
            scope: text("scope"),
            event_types: texts(&rule["eventTypes"]),
            minimum_amount: rule["minimumAmount"].as_i64(),
            receipt: rule["receipt"].as_bool(),
            manual: rule["manual"].as_bool(),
            direction: rule["direction"].as_str().map(ToOwned::to_owned),
            store_open: rule["storeOpen"].as_bool(),
            after: rule.get("after").filter(|after| !after.is_null()).map(|after| After {
                event_types: texts(&after["eventTypes"]),
                within: millis(&after["withinSeconds"]).expect("a number of seconds"),
                same: after["same"].as_str().unwrap_or("basket").to_owned(),
            }),
            aggregate,
            window,
            limit: rule["limit"].as_f64().expect("a number"),
            minimum_sample: rule["minimumSample"].as_u64().unwrap_or(1),
            cooldown: millis(&rule["cooldownSeconds"]).unwrap_or(window),
            fires_alerts: rule["status"].as_str().unwrap_or("active") == "active",
        }
    }

    fn see(&self, memory: &mut Memory, event: &Event, entity: &str, stores: &Stores) -> Option<Alert> {
        let fired = self.evaluate(memory, event, stores);
        if let Some(after) = &self.after
            && after.event_types.contains(&event.kind)
            && let Some(key) = after.key(event)
        {
            after.keep(memory, event, key);
        }
        let (observed, window) = fired?;
        memory.last_alert = Some(event.at());
        Some(Alert {
            rule: self.id.clone(),
            scope: self.scope.clone(),
            entity: entity.to_owned(),
            at: event.at(),
            severity: self.severity.clone(),
            store: event.store.clone(),
            terminal: Some(event.terminal.clone()),
            employee: event.text("employeeId").map(ToOwned::to_owned),
            observed,
            limit: self.limit,
            event_ids: evidence(&window),
        })
    }

    /// The observed value and the contributing entries, if the rule fires on this event.
    fn evaluate(&self, memory: &mut Memory, event: &Event, stores: &Stores) -> Option<(f64, Vec<Entry>)> {
        if !self.filters_pass(event, stores) {
            return None;
        }
        let antecedent = match &self.after {
            Some(after) => Some(after.antecedent(memory, event)?),
            None => None,
        };
        let value = match &self.aggregate {
            Aggregate::Sum(of) => find(of, event).filter(Value::is_number)?,
            Aggregate::Distinct(of) => find(of, event)?,
            Aggregate::Count | Aggregate::Ratio(_) => Value::Null,
        };
        let in_base = self.event_types.contains(&event.kind);
        if let Aggregate::Ratio(numerator) = &self.aggregate
            && !numerator.contains(&event.kind)
        {
            self.count_in_bucket(memory, event.at());
            return None;
        }
        let time = event.at();
        let entry = Entry { time, name: event.name(), antecedent, value, in_base };
        let (end, window) = if self.window == 0 { (time, vec![entry]) } else { self.enter(memory, entry) };
        let (observed, sample) = self.observe(memory, end, &window);
        let cooled_down = memory.last_alert.is_none_or(|last| (time - last).abs() >= self.cooldown);
        (sample >= self.minimum_sample && observed > self.limit && cooled_down).then_some((observed, window))
    }

    fn filters_pass(&self, event: &Event, stores: &Stores) -> bool {
        let counted = match &self.aggregate {
            Aggregate::Ratio(numerator) => numerator.contains(&event.kind),
            _ => false,
        };
        let flag = |key: &str, wanted: Option<bool>| {
            wanted.is_none_or(|wanted| event.data.get(key).and_then(Value::as_bool) == Some(wanted))
        };
        (counted || self.event_types.contains(&event.kind))
            && self.minimum_amount.is_none_or(|least| event.amount().is_some_and(|amount| amount >= least))
            && flag("receipt", self.receipt)
            && flag("manual", self.manual)
            && self.direction.as_deref().is_none_or(|wanted| event.direction() == Some(wanted))
            && self.store_open.is_none_or(|wanted| stores.is_open(&event.store, event.time) == Some(wanted))
    }

    /// Puts an entry into the list and gives the end of the window and what is in it.
    fn enter(&self, memory: &mut Memory, entry: Entry) -> (i64, Vec<Entry>) {
        let time = entry.time;
        let entries = &mut memory.entries;
        entries.retain(|entry| entry.time > time - self.window);
        let place = entries.partition_point(|entry| entry.time <= time);
        entries.insert(place, entry);
        if entries.len() > ENTRIES_MAX {
            entries.drain(..entries.len() - ENTRIES_MAX);
        }
        let end = entries.iter().map(|entry| entry.time).filter(|other| *other < time + self.window).max();
        let end = end.unwrap_or(time).max(time);
        let inside = |entry: &&Entry| entry.time > end - self.window && entry.time <= end;
        (end, entries.iter().filter(inside).cloned().collect())
    }

    fn bucket(&self, time: i64) -> i64 {
        let length = (self.window + 23) / 24;
        time.div_euclid(length)
    }

    fn count_in_bucket(&self, memory: &mut Memory, time: i64) {
        let bucket = self.bucket(time);
        memory.buckets.retain(|number, _| *number > bucket - 24);
        *memory.buckets.entry(bucket).or_default() += 1;
        while memory.buckets.len() > BUCKETS_MAX {
            memory.buckets.pop_first();
        }
    }

    /// The observed value and the size of the sample.
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    fn observe(&self, memory: &Memory, end: i64, window: &[Entry]) -> (f64, u64) {
        let count = window.len() as u64;
        match &self.aggregate {
            Aggregate::Count => (count as f64, count),
            Aggregate::Sum(_) => (window.iter().filter_map(|entry| entry.value.as_f64()).sum(), count),
            Aggregate::Distinct(_) => {
                let different: HashSet<String> = window.iter().map(|entry| canonical(&entry.value)).collect();
                (different.len() as f64, count)
            }
            Aggregate::Ratio(_) => {
                let last = self.bucket(end);
                let others: u64 = memory.buckets.range(last - 23..=last).map(|(_, count)| count).sum();
                let of_base = window.iter().filter(|entry| entry.in_base).count() as u64;
                let denominator = others + of_base;
                if denominator == 0 { (0.0, 0) } else { (count as f64 / denominator as f64, denominator) }
            }
        }
    }
}

impl After {
    fn key(&self, event: &Event) -> Option<String> {
        match self.same.as_str() {
            "basket" if event.is("pos.refund.completed") => event.text("originalBasketId").or(event.text("basketId")),
            "basket" => event.text("basketId"),
            "terminal" => Some(event.terminal.as_str()),
            "employee" => event.text("employeeId"),
            "entity" => Some(""),
            same => panic!("unknown key {same}"),
        }
        .map(ToOwned::to_owned)
    }

    fn keep(&self, memory: &mut Memory, event: &Event, key: String) {
        let (preceding, time) = (&mut memory.preceding, event.at());
        preceding.retain(|other| other.time >= time - self.within);
        let place = preceding.partition_point(|other| other.time <= time);
        preceding.insert(place, Preceding { time, key, name: event.name() });
        if preceding.len() > PRECEDING_MAX {
            preceding.remove(0);
        }
    }

    /// The latest preceding event that makes this one count.
    fn antecedent(&self, memory: &Memory, event: &Event) -> Option<String> {
        let key = self.key(event)?;
        let time = event.at();
        let near = |other: &&Preceding| other.key == key && (time - self.within..=time).contains(&other.time);
        memory.preceding.iter().rev().find(near).map(|other| other.name.clone())
    }
}

/// The contributing events, each named once, of many the last hundred.
fn evidence(window: &[Entry]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in window.iter().flat_map(|entry| entry.antecedent.iter().chain([&entry.name])) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names.split_off(names.len().saturating_sub(EVIDENCE_MAX))
}

/// What `of` finds in an event.
fn find(of: &str, event: &Event) -> Option<Value> {
    let value = match of {
        "amount" => event.amount()?.into(),
        "terminalId" => event.terminal.clone().into(),
        "storeId" => event.store.clone().into(),
        "customerId" => entity("customer", event)?.into(),
        "cardToken" => entity("card", event)?.into(),
        "employeeId" | "basketId" | "productId" | "category" | "method" => event.text(of)?.into(),
        path => path.strip_prefix("data.")?.split('.').try_fold(&event.data, |value, name| value.get(name))?.clone(),
    };
    (value.is_string() || value.is_number() || value.is_boolean()).then_some(value)
}

/// Texts, numbers and booleans so that only equal ones read the same.
fn canonical(value: &Value) -> String {
    value.as_f64().map_or_else(|| value.to_string(), |number| format!("{number:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::case::{Case, employee, line, payment};
    use serde_json::json;

    /// Observed value and evidence (ids without their source) of each alert of one rule.
    fn fired(rule: &Value, case: &Case) -> Vec<(f64, String)> {
        let stores = Stores::new(json!({"S001": {"hours": {"mon": "07:00-21:00"}}}));
        let log = Log::read(case.messages(), 8);
        let ids = |alert: &Alert| -> Vec<String> {
            alert.event_ids.iter().filter_map(|name| name.split('#').nth(1)).map(ToOwned::to_owned).collect()
        };
        let alerts = alerts(&log, &json!({"rules": [rule]}), &stores);
        alerts.iter().map(|alert| (alert.observed, ids(alert).join(" "))).collect()
    }

    fn rule(scope: &str, types: &[&str], rest: &Value) -> Value {
        let mut rule = json!({"id": "r", "severity": "low", "scope": scope, "eventTypes": types, "limit": 0});
        rule.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        rule
    }

    #[test]
    fn a_count_fires_above_its_limit_and_then_cools_down() {
        let rest = json!({"aggregate": {"kind": "count"}, "windowSeconds": 600, "limit": 2});
        let rule = rule("employee", &["pos.drawer.opened"], &rest);
        let open = |case: Case, time: &str| case.then("T1", time, "drawer.opened", &employee("E1"));
        let times = ["08:00:00", "08:05:00", "08:09:59", "08:10:00", "08:15:00", "08:19:59"];
        let case = times.into_iter().fold(Case::default(), open);
        // At 08:10:00 the first opening has left the window; at 08:19:59 three are in it, ten minutes after the alert.
        assert_eq!(fired(&rule, &case), [(3.0, "T1-1 T1-2 T1-3".to_owned()), (3.0, "T1-4 T1-5 T1-6".to_owned())]);
    }

    #[test]
    fn a_late_event_can_complete_a_pattern() {
        let rest = json!({"aggregate": {"kind": "distinct", "of": "terminalId"}, "windowSeconds": 60, "limit": 1});
        let rule = rule("employee", &["pos.drawer.opened"], &rest);
        let case = Case::default()
            .then("T1", "08:00:00", "drawer.opened", &employee("E1"))
            .then("T2", "08:10:00", "drawer.opened", &employee("E2"))
            .then("T2", "08:00:30", "drawer.opened", &employee("E1"));
        assert_eq!(fired(&rule, &case), [(2.0, "T1-1 T2-2".to_owned())]);
    }

    #[test]
    fn a_ratio_counts_numerators_against_what_is_in_the_buckets() {
        let aggregate = json!({"kind": "ratio", "numerator": ["pos.basket.item_voided"]});
        let rest = json!({"aggregate": aggregate, "windowSeconds": 3600, "limit": 0.5, "minimumSample": 3});
        let rule = rule("employee", &["pos.basket.item_added"], &rest);
        let case = Case::default()
            .then("T1", "08:00:00", "basket.item_added", &line("b", 1, "P1", "x"))
            .then("T1", "08:00:01", "basket.item_added", &line("b", 2, "P2", "x"))
            .then("T1", "08:00:02", "basket.item_voided", &line("b", 1, "P1", "x"))
            .then("T1", "08:00:03", "basket.item_voided", &line("b", 2, "P2", "x"))
            .then("T1", "08:00:04", "basket.item_added", &line("b", 3, "P3", "x"))
            .then("T1", "08:00:05", "basket.item_added", &line("b", 4, "P4", "x"))
            .then("T1", "08:00:06", "basket.item_voided", &line("b", 4, "P4", "x"));
        // Two voids against two lines are too small a sample; three against four are not.
        assert_eq!(fired(&rule, &case), [(0.75, "T1-3 T1-4 T1-7".to_owned())]);
    }

    #[test]
    fn a_void_counts_only_soon_after_the_payment_of_its_basket() {
        let after = json!({"eventTypes": ["pos.payment.completed"], "withinSeconds": 600, "same": "basket"});
        let rest = json!({"after": after, "aggregate": {"kind": "count"}, "windowSeconds": 600});
        let rule = rule("terminal", &["pos.basket.item_voided"], &rest);
        let case = Case::default()
            .then("T1", "08:00:00", "payment.completed", &payment("b1"))
            .then("T1", "08:01:00", "basket.item_voided", &line("b2", 1, "P1", "x"))
            .then("T1", "08:10:00", "basket.item_voided", &line("b1", 1, "P1", "x"))
            .then("T1", "08:10:01", "basket.item_voided", &line("b1", 2, "P1", "x"));
        assert_eq!(fired(&rule, &case), [(1.0, "T1-1 T1-3".to_owned())]);
    }

    #[test]
    fn only_a_store_that_is_known_to_be_closed_is_closed() {
        let rest = json!({"storeOpen": false, "aggregate": {"kind": "count"}, "windowSeconds": 0});
        let rule = rule("terminal", &["pos.drawer.opened"], &rest);
        let case = Case::default().then("T1", "06:59:59", "drawer.opened", &employee("E1")).then(
            "T1",
            "07:00:00",
            "drawer.opened",
            &employee("E1"),
        );
        assert_eq!(fired(&rule, &case), [(1.0, "T1-1".to_owned())]);
    }
}
