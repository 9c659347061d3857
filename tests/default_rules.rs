//! The default fraud rules find what the rig plants, each anomaly once, and hardly anything else.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its own material has failed")]

use std::collections::{BTreeMap, HashMap};

use tillstream::effect::{Cause, Context, Effect, Effects, Position, Record};
use tillstream::event::{Event, Scope};
use tillstream::plugins::Plugin;
use tillstream::plugins::defaults::Defaults;
use tillstream::plugins::fraud_detection::{FraudDetection, State};
use tillstream::plugins::validate::validate;
use tillstream::rig::{Limit, MessageKind, Options, Rig};
use tillstream::stores::Stores;
use tillstream::time::Timestamp;

/// All events through one copy of the plugin, in the order in which they are sent.
#[derive(Default)]
struct Outcome {
    /// Times that a rule fired, by rule and `scope:id`.
    fired: BTreeMap<(String, String), usize>,
    largest_state_bytes: usize,
}

fn run(messages: &[Event]) -> Outcome {
    let defaults = Defaults::built_in();
    let stores = Stores::new(defaults.stores.clone()).unwrap();
    let (_, compiled) = validate::<FraudDetection>(&defaults.plugins["fraud-detection"].settings).unwrap();
    let subscriptions = FraudDetection::subscriptions(&compiled);
    let mut states: HashMap<(Scope, String), State> = HashMap::new();
    let mut outcome = Outcome::default();
    let mut clock = Timestamp::MIN;
    let mut effects = Vec::new();
    for event in messages {
        clock = clock.max(event.time);
        for subscription in &subscriptions {
            let scope = subscription.scope;
            let Some(entity) = event.entity(scope).filter(|_| subscription.event_types.contains(event.event_type()))
            else {
                continue;
            };
            let state = states.entry((scope, entity.to_owned())).or_default();
            let context = Context {
                plugin: FraudDetection::NAME,
                scope,
                entity,
                now: clock,
                position: Position::default(),
                late: event.time < clock,
                same_actor: false,
                stores: &stores,
            };
            let mut wake = None;
            let mut fx = Effects::new(context, Cause::Event(event), &mut effects, &mut wake);
            FraudDetection::apply(state, &compiled, event, &mut fx);
        }
        for effect in effects.drain(..) {
            if let Effect::Record(Record::Alert(record)) = effect {
                let entity = format!("{}:{}", record.alert.scope.as_str(), &*record.alert.entity);
                *outcome.fired.entry((record.alert.rule_id.to_string(), entity)).or_default() += 1;
            }
        }
    }
    let sizes = states.values().map(|state| rmp_serde::to_vec_named(state).unwrap().len());
    outcome.largest_state_bytes = sizes.max().unwrap_or_default();
    outcome
}

/// The rig's events, and how often it planted an anomaly by rule and entity.
fn planted(options: Options) -> (Vec<Event>, BTreeMap<(String, String), usize>) {
    let mut rig = Rig::new(options);
    let mut events = Vec::new();
    for message in rig.by_ref().filter(|message| message.kind == MessageKind::Event) {
        events.push(Event::parse(&message.bytes).unwrap());
    }
    let mut planted = BTreeMap::new();
    for label in rig.take_labels() {
        *planted.entry((label.kind.to_owned(), label.entity)).or_default() += 1;
    }
    (events, planted)
}

fn scenario(seed: u64, anomalies: f64) -> Options {
    let (stores, terminals) = (4, 25);
    let employees = Options::default_employees(stores, terminals);
    Options { stores, terminals, employees, seed, anomalies, limit: Limit::Events(60_000), ..Options::default() }
}

#[test]
fn what_is_planted_is_found_once_and_little_else() {
    for seed in 1..=2 {
        let (events, planted) = planted(scenario(seed, 0.02));
        let outcome = run(&events);
        let missed: Vec<_> =
            planted.iter().filter(|(what, times)| outcome.fired.get(what).unwrap_or(&0) != *times).collect();
        let unplanted: Vec<_> = outcome.fired.iter().filter(|(what, _)| !planted.contains_key(what)).collect();
        let total: usize = planted.values().sum();
        assert!(missed.is_empty(), "{missed:#?}");
        assert!(unplanted.len() * 50 <= total, "{unplanted:#?}");
        assert!(outcome.largest_state_bytes < 4000, "{}", outcome.largest_state_bytes);
    }
}

#[test]
fn honest_shops_raise_hardly_any_alert() {
    let (events, _) = planted(scenario(3, 0.0));
    let fired = run(&events).fired;
    assert!(fired.len() <= 2, "{fired:#?}");
}
