//! What an alert says: its contributing events, and a sentence that explains it.

use std::fmt::Write;
use std::ops::Range;

use super::compile::{CompiledRule, Measure};
use super::field::Field;
use super::window::{Entry, State};
use crate::effect::{AlertRecord, Effects, Position, Record};
use crate::event::{AlertRaised, Event, EventData, EventType, Id, Scope};

/// Most events that an alert names.
const EVENT_IDS_MAX: usize = 100;

/// A rule that fired.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) observed: f64,
    /// Events of the denominator of a ratio.
    pub(super) sample: u64,
    pub(super) contributing: Contributing,
}

/// The events that an alert rests on.
#[derive(Debug)]
pub(super) enum Contributing {
    /// Entries of the rule's window.
    Window(Range<usize>),
    /// Only the event itself, for windows of no length.
    Event(Entry),
}

/// Publishes and records the alert, or only records it for a rule on trial.
pub(super) fn raise(state: &State, rule: &CompiledRule, finding: &Finding, event: &Event, fx: &mut Effects<'_>) {
    let entries = match &finding.contributing {
        Contributing::Window(range) => {
            &state.known_rule(rule.key).expect("the rule has just fired").entries[range.clone()]
        }
        Contributing::Event(entry) => std::slice::from_ref(entry),
    };
    let alert_id = fx.derive_id();
    let (event_ids, evidence) = named(state, entries);
    let context = fx.context();
    let id = |text: &str| Id::new(text).expect("made of valid identifiers");
    let alert = AlertRaised {
        alert_id: id(&alert_id),
        rule_id: id(&rule.id),
        rule_revision: rule.revision,
        severity: rule.severity,
        scope: rule.scope,
        entity: id(context.entity),
        observed: finding.observed,
        limit: rule.limit,
        window_seconds: Some(rule.window_ms / 1000),
        event_ids,
        message: message(rule, finding, entries, event),
    };
    if !rule.shadow {
        fx.publish(EventData::AlertRaised(alert.clone()));
    }
    fx.record(Record::Alert(Box::new(AlertRecord {
        alert,
        at: fx.time_of(event),
        store_id: event.store_id().unwrap_or_default().to_owned(),
        terminal_id: event.terminal_id().map(ToOwned::to_owned),
        employee_id: event.entity(Scope::Employee).map(ToOwned::to_owned),
        evidence,
        shadow: rule.shadow,
    })));
}

fn named(state: &State, entries: &[Entry]) -> (Vec<String>, Vec<Position>) {
    let mut names = Vec::new();
    let mut positions = Vec::new();
    for event in entries.iter().flat_map(|entry| entry.antecedent.iter().chain([&entry.event])) {
        let (name, position) = state.resolve(event);
        if !names.contains(&name) {
            names.push(name);
            positions.push(position);
        }
    }
    let over = names.len().saturating_sub(EVENT_IDS_MAX);
    names.drain(..over);
    positions.drain(..over);
    (names, positions)
}

/// A sentence such as "7 voids of 20 lines (35 %) in 8 h, limit 20 %".
fn message(rule: &CompiledRule, finding: &Finding, entries: &[Entry], event: &Event) -> String {
    let count = entries.len();
    let observed = match &rule.measure {
        Measure::Count => counted(count, noun(rule, |types| types.event_types)),
        Measure::Sum(Field::Amount) => {
            format!("{} in {}", money(finding.observed, event), counted(count, noun(rule, |types| types.event_types)))
        }
        Measure::Sum(_) => {
            format!("{} in {}", number(finding.observed), counted(count, noun(rule, |types| types.event_types)))
        }
        Measure::Distinct(field) => {
            let values = format!("{} different {}", number(finding.observed), field_noun(field));
            format!("{values} in {}", counted(count, noun(rule, |types| types.event_types)))
        }
        Measure::Ratio(expression) => {
            let numerators = match expression {
                Some(_) => format!("{count} matching"),
                None => counted(count, noun(rule, |types| types.numerator_types)),
            };
            let sample = usize::try_from(finding.sample).unwrap_or(usize::MAX);
            let all = counted(sample, noun(rule, |types| types.event_types));
            format!("{numerators} of {all} ({})", percent(finding.observed))
        }
    };
    let limit = match &rule.measure {
        Measure::Ratio(_) => percent(rule.limit),
        Measure::Sum(Field::Amount) => money(rule.limit, event),
        _ => number(rule.limit),
    };
    let mut text = format!("{}: {observed}", rule.name);
    if rule.window_ms > 0 {
        write!(text, " in {}", duration(rule.window_ms / 1000)).expect("a String takes all");
    }
    write!(text, ", limit {limit}").expect("a String takes all");
    text
}

fn noun(rule: &CompiledRule, of: impl Fn(&CompiledRule) -> crate::plugins::EventTypes) -> (&'static str, &'static str) {
    let types = of(rule);
    let mut named = EventType::ALL.iter().filter(|kind| types.contains(**kind));
    match (named.next(), named.next()) {
        (Some(kind), None) => match kind {
            EventType::LoggedIn => ("login", "logins"),
            EventType::LoggedOut => ("logout", "logouts"),
            EventType::BasketStarted => ("started basket", "started baskets"),
            EventType::CustomerIdentified => ("customer identification", "customer identifications"),
            EventType::ItemAdded => ("line", "lines"),
            EventType::ItemVoided => ("void", "voids"),
            EventType::ItemReturned => ("returned line", "returned lines"),
            EventType::SubtotalFinalized => ("basket", "baskets"),
            EventType::PaymentCompleted => ("payment", "payments"),
            EventType::BasketCancelled => ("cancelled basket", "cancelled baskets"),
            EventType::BasketSuspended => ("suspended basket", "suspended baskets"),
            EventType::BasketResumed => ("resumed basket", "resumed baskets"),
            EventType::DiscountApplied => ("discount", "discounts"),
            EventType::RefundCompleted => ("refund", "refunds"),
            EventType::DrawerOpened => ("drawer opening", "drawer openings"),
            EventType::AgeChecked => ("age check", "age checks"),
            _ => ("event", "events"),
        },
        _ => ("event", "events"),
    }
}

fn counted(count: usize, (one, many): (&str, &str)) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

const fn field_noun(field: &Field) -> &'static str {
    match field {
        Field::Source | Field::TerminalId => "terminals",
        Field::StoreId => "stores",
        Field::EmployeeId => "employees",
        Field::CustomerId => "customers",
        Field::CardToken => "cards",
        Field::BasketId => "baskets",
        Field::ProductId => "products",
        Field::Category => "categories",
        Field::Method => "methods",
        Field::Amount => "amounts",
        Field::Data(_) => "values",
    }
}

fn number(value: f64) -> String {
    format!("{}", (value * 1000.0).round() / 1000.0)
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 1000.0).round() / 10.0)
}

/// Minor units as people write them, with the decimals that the currency has.
fn money(minor: f64, event: &Event) -> String {
    let Some(currency) = event.data.currency() else {
        return number(minor);
    };
    let decimals = usize::from(currency.exponent());
    format!("{:.decimals$} {}", minor / 10_f64.powi(i32::from(currency.exponent())), currency.as_str())
}

fn duration(seconds: i64) -> String {
    match seconds {
        seconds if seconds % 86_400 == 0 && seconds > 86_400 => format!("{} days", seconds / 86_400),
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 && seconds > 60 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
