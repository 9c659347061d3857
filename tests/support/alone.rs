//! Runs one plugin over a log as the system would, with nothing around it: no actors, no batches, no store, no bus.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use tillstream::effect::{Cause, Context, Effect, Effects, Position, Record};
use tillstream::event::{Event, Scope};
use tillstream::plugins::Plugin;
use tillstream::stores::Stores;
use tillstream::time::Timestamp;

use crate::oracle::event as plain;
use crate::oracle::log::Log;

/// What a plugin asked for over a whole log.
#[derive(Default)]
pub(crate) struct Outcome {
    /// The last record of each id.
    pub(crate) records: Vec<Record>,
    pub(crate) published: Vec<Event>,
}

#[derive(Default)]
struct Entity<S> {
    state: S,
    wake: Option<Timestamp>,
}

/// Applies the whole log, then a tick far behind its end.
pub(crate) fn run<P: Plugin>(log: &Log, defaults: &Value) -> Outcome {
    let settings = serde_json::from_value(defaults["plugins"][P::NAME]["settings"].clone()).expect("settings");
    let stores = Stores::new(serde_json::from_value(defaults["stores"].clone()).expect("stores")).expect("stores");
    let compiled = P::compile(&settings).unwrap_or_else(|errors| panic!("{errors:?}"));
    let mut effects = Vec::new();
    for subscription in P::subscriptions(&compiled) {
        let scope = subscription.scope;
        let mut entities: BTreeMap<String, Entity<P::State>> = BTreeMap::new();
        let step =
            |entity: &mut Entity<P::State>, id: &str, event: Option<(&plain::Event, &Event)>, effects: &mut _| {
                let clock = event.map_or(Timestamp::MAX, |(plain, _)| Timestamp::from_millis(plain.clock));
                let at = |now, position, (late, same_actor)| {
                    let (plugin, entity, stores) = (P::NAME, id, &stores);
                    Context { plugin, scope, entity, now, position, late, same_actor, stores }
                };
                while let Some(due) = entity.wake.filter(|due| *due <= clock) {
                    entity.wake = None;
                    let context = at(due, Position::default(), (false, false));
                    let mut fx = Effects::new(context, Cause::Timer(due), effects, &mut entity.wake);
                    P::on_timer(&mut entity.state, &compiled, &mut fx);
                }
                if let Some((plain, event)) = event {
                    let position = Position { partition: plain.partition, offset: plain.offset };
                    let context = at(clock, position, (plain.late, plain.same_actor));
                    let mut fx = Effects::new(context, Cause::Event(event), effects, &mut entity.wake);
                    P::apply(&mut entity.state, &compiled, event, &mut fx);
                }
            };
        let events = if scope == Scope::Terminal { log.events.iter().collect() } else { log.across_tills() };
        for plain in events {
            let event = parse(plain);
            if let Some(id) = event.entity(scope)
                && subscription.event_types.contains(event.event_type())
            {
                let entity = entities.entry(id.to_owned()).or_default();
                step(entity, id, Some((plain, &event)), &mut effects);
            }
        }
        for (id, entity) in &mut entities {
            step(entity, id, None, &mut effects);
        }
    }
    collect(effects)
}

fn parse(event: &plain::Event) -> Event {
    let time = Timestamp::from_millis(event.time).to_string();
    let message = json!({
        "specversion": "1.0", "id": event.id, "source": event.source, "type": event.kind, "time": time,
        "sequence": event.sequence, "training": event.training, "data": event.data,
    });
    Event::parse(&Bytes::from(message.to_string())).expect("a valid event")
}

fn collect(effects: Vec<Effect>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut records: BTreeMap<String, Record> = BTreeMap::new();
    for effect in effects {
        match effect {
            Effect::Publish(event) => outcome.published.push(*event),
            Effect::Record(record) => {
                records.insert(id_of(&record).to_owned(), record);
            }
            Effect::Http(_) | Effect::Log(_) | Effect::ConditionFailed(_) => {}
        }
    }
    let mut ids: Vec<&str> = outcome.published.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "two derived events share an id");
    outcome.records = records.into_values().collect();
    outcome
}

fn id_of(record: &Record) -> &str {
    match record {
        Record::Session(session) => &session.id,
        Record::Alert(alert) => &alert.alert.alert_id,
        Record::Recommendation(recommendation) => &recommendation.id,
        Record::AgePrompt(prompt) => &prompt.id,
    }
}
