use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::*;
use crate::bus::{Topic, TopicPartition};
use crate::control::Snapshot;
use crate::event::{Event, EventType, Scope};
use crate::pipeline::{Addressee, Placed};
use crate::plugins::testing::{at, event, logged};
use crate::plugins::{EventTypes, Subscription};
use crate::stores::FieldError;

/// Remembers why drawers were opened. A reason may ask for trouble, as long as the settings say `broken`.
struct Fragile;

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
struct FragileSettings {
    broken: bool,
}

impl Plugin for Fragile {
    type State = Vec<String>;
    type Settings = FragileSettings;
    type Compiled = FragileSettings;

    const NAME: &'static str = "fragile";
    const DESCRIPTION: &'static str = "Breaks on request.";

    fn compile(settings: &FragileSettings) -> Result<FragileSettings, Vec<FieldError>> {
        Ok(*settings)
    }

    fn subscriptions(_: &FragileSettings) -> Vec<Subscription> {
        vec![Subscription { scope: Scope::Terminal, event_types: EventTypes::of(&[EventType::DrawerOpened]) }]
    }

    fn apply(state: &mut Vec<String>, settings: &FragileSettings, event: &Event, fx: &mut Effects<'_>) {
        let EventData::DrawerOpened(opened) = &event.data else { return };
        let reason = opened.reason.clone().unwrap_or_default().to_string();
        fx.log(&reason);
        state.push(reason.clone());
        match reason.as_str() {
            "panic" => assert!(!settings.broken, "cannot stand it"),
            "timer" | "endless" | "timer that panics" => fx.wake_at(Some(fx.now().plus_seconds(1))),
            _ => {}
        }
    }

    fn on_timer(state: &mut Vec<String>, settings: &FragileSettings, fx: &mut Effects<'_>) {
        let asked = state.last().cloned().unwrap_or_default();
        state.push("rang".to_owned());
        fx.log("rang");
        match asked.as_str() {
            "timer that panics" if settings.broken => panic!("woken too early"),
            _ if settings.broken && state.contains(&"endless".to_owned()) => fx.wake_at(Some(fx.now())),
            _ => {}
        }
    }
}

fn key() -> EntityKey {
    let partition = TopicPartition::new(Topic::Events, 0);
    EntityKey { partition, plugin: Fragile::NAME, scope: Scope::Terminal, entity: "T1".to_owned() }
}

/// A batch of drawers opened for these reasons, one a minute, the clock a minute after the last.
fn batch(reasons: &[&str], settings: &Value) -> Work {
    let placed = |(index, reason): (usize, &&str)| {
        let time = at("08:00:00").plus_seconds(60 * i64::try_from(index).unwrap());
        let event = event("S001/T1", EventType::DrawerOpened, time, &json!({"employeeId": "E1", "reason": reason}));
        let position = Position { partition: 0, offset: i64::try_from(index).unwrap() };
        Placed { event: Arc::new(event), position, clock: time, late: false, addressee: None }
    };
    let events: Vec<Placed> = reasons.iter().enumerate().map(placed).collect();
    let clock = at("08:00:00").plus_seconds(60 * i64::try_from(events.len()).unwrap());
    let settings = Arc::new(Snapshot::with_only::<Fragile>(settings));
    let indexes = (0..u32::try_from(events.len()).unwrap()).collect();
    let input = BatchInput { batch: 1, committed: 0, events, groups: Vec::new(), clocks: Vec::new(), settings };
    Work { input: Arc::new(input), events: indexes, clock }
}

fn state_of(outcome: &EntityOutcome) -> Vec<String> {
    rmp_serde::from_slice(&outcome.row.as_ref().expect("a changed state").state).unwrap()
}

fn broken() -> Value {
    json!({"broken": true})
}

#[test]
fn an_event_at_which_the_plugin_panics_is_left_out_and_the_others_are_applied_as_if_it_had_never_come() {
    let mut entity = EntityActor::<Fragile>::new(key(), None).unwrap();
    let outcome = entity.work(&batch(&["a", "panic", "b", "timer", "panic", "c"], &broken()));
    assert_eq!(state_of(&outcome), ["a", "b", "timer", "rang", "c"]);
    assert_eq!(logged(&outcome.effects), ["a", "b", "timer", "rang", "c"]);
    let failure = |index| Failure { event: Some(index), due: None, message: "cannot stand it".to_owned() };
    assert_eq!(outcome.failures, [failure(1), failure(4)]);

    let mut spared = EntityActor::<Fragile>::new(key(), None).unwrap();
    let without = batch(&["a", "panic", "b", "timer", "panic", "c"], &broken());
    let undisturbed = spared.work(&Work { events: vec![0, 2, 3, 5], ..without });
    assert_eq!(outcome.row, undisturbed.row);
}

#[test]
fn after_a_panic_the_next_batch_goes_on_from_what_was_kept() {
    let mut entity = EntityActor::<Fragile>::new(key(), None).unwrap();
    entity.work(&batch(&["a", "panic"], &broken()));
    let outcome = entity.work(&batch(&["b"], &broken()));
    assert_eq!(state_of(&outcome), ["a", "b"]);
    assert_eq!(outcome.failures, []);
    let stored = EntityActor::<Fragile>::new(key(), outcome.row).unwrap();
    assert_eq!(stored.state, ["a", "b"]);
}

#[test]
fn a_batch_of_nothing_but_panics_changes_nothing() {
    let mut entity = EntityActor::<Fragile>::new(key(), None).unwrap();
    entity.work(&batch(&["a"], &broken()));
    let outcome = entity.work(&batch(&["panic", "panic"], &broken()));
    assert_eq!((outcome.row.is_none(), outcome.effects.len(), outcome.failures.len()), (true, 0, 2));
}

#[test]
fn a_replay_is_applied_once_the_cause_is_gone_and_names_its_dead_letter_only_then() {
    let replay = |settings| {
        let mut work = batch(&["panic"], &settings);
        let addressee = Addressee {
            plugin: Fragile::NAME.into(),
            scope: Scope::Terminal,
            entity: "T1".into(),
            dead_letter: Some("letter-1".to_owned()),
        };
        let input = Arc::get_mut(&mut work.input).unwrap();
        input.events[0].addressee = Some(Arc::new(addressee));
        work
    };
    let mut entity = EntityActor::<Fragile>::new(key(), None).unwrap();
    let still_broken = entity.work(&replay(broken()));
    assert_eq!((still_broken.replayed.len(), still_broken.failures.len()), (0, 1));
    let mended = entity.work(&replay(json!({"broken": false})));
    assert_eq!((mended.replayed.as_slice(), mended.failures.len()), (["letter-1".to_owned()].as_slice(), 0));
    assert_eq!(state_of(&mended), ["panic"]);
}

#[test]
fn a_timer_at_which_the_plugin_panics_is_reported_with_its_time_and_events_go_on() {
    let mut entity = EntityActor::<Fragile>::new(key(), None).unwrap();
    let outcome = entity.work(&batch(&["timer that panics", "a"], &broken()));
    assert_eq!(state_of(&outcome), ["timer that panics", "a"]);
    let failure = Failure { event: None, due: Some(at("08:00:01")), message: "woken too early".to_owned() };
    assert_eq!((outcome.failures, outcome.due), (vec![failure], None));
}

#[test]
fn a_timer_that_sets_itself_again_without_end_is_cut_off() {
    let mut entity = EntityActor::<Fragile>::new(key(), None).unwrap();
    let outcome = entity.work(&batch(&["endless", "a"], &broken()));
    assert_eq!(outcome.failures.len(), 1);
    assert_eq!(outcome.failures[0].due, Some(at("08:00:01")));
    assert!(outcome.failures[0].message.contains("without end"));
    assert_eq!(state_of(&outcome), ["endless", "a"]);
}

#[test]
fn a_stored_state_that_does_not_read_back_says_whose_it_is() {
    let row = EntityRow { key: key(), state: Bytes::from_static(b"\xc1 no state"), due: None };
    let error = EntityActor::<Fragile>::new(key(), Some(row)).err().expect("a fault");
    assert_eq!((error.plugin, error.entity.as_str()), ("fragile", "terminal:T1"));
}
