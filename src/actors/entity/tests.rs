use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::*;
use crate::actors::quarantine::{Quarantine, Share};
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
    #[serde(default)]
    days: u32,
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

    fn forget_after_days(settings: &FragileSettings, _: Scope) -> u32 {
        settings.days
    }

    fn apply(state: &mut Vec<String>, settings: &FragileSettings, event: &Event, fx: &mut Effects<'_>) {
        let EventData::DrawerOpened(opened) = &event.data else { return };
        let reason = opened.reason.clone().unwrap_or_default().to_string();
        fx.log(&reason);
        state.push(reason.clone());
        match reason.as_str() {
            "panic" => assert!(!settings.broken, "cannot stand it"),
            "in ten days" => fx.wake_at(Some(fx.now().plus_seconds(10 * 86_400))),
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
        Placed { event: Arc::new(event), position, clock: time, late: false, same_actor: false, addressee: None }
    };
    let events: Vec<Placed> = reasons.iter().enumerate().map(placed).collect();
    let clock = at("08:00:00").plus_seconds(60 * i64::try_from(events.len()).unwrap());
    let settings = Arc::new(Snapshot::with_only::<Fragile>(settings));
    let indexes = (0..u32::try_from(events.len()).unwrap()).collect();
    let input =
        BatchInput { batch: 1, committed: 0, events, groups: Vec::new(), clocks: Vec::new(), settings, refusals: None };
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
    let failure =
        |index| Failure { event: Some(index), due: None, message: "cannot stand it".to_owned(), is_refused: false };
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
            plugin: Some(Fragile::NAME.into()),
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
    let failure =
        Failure { event: None, due: Some(at("08:00:01")), message: "woken too early".to_owned(), is_refused: false };
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
    let row = EntityRow { key: key(), state: Bytes::from_static(b"\xc1 no state"), due: None, expires: None };
    let error = EntityActor::<Fragile>::new(key(), Some(row)).err().expect("a fault");
    assert_eq!((error.plugin, error.entity.as_str()), ("fragile", "terminal:T1"));
}

/// One batch of drawers opened for these reasons so many days after the first, the clock at the last of them.
fn on_days(reasons: &[(&str, i64)], settings: &Value) -> Work {
    let names: Vec<&str> = reasons.iter().map(|(reason, _)| *reason).collect();
    let Work { input, events, .. } = batch(&names, settings);
    let mut input = Arc::into_inner(input).expect("nobody else has it");
    let mut clock = Timestamp::MIN;
    for (placed, (_, days)) in input.events.iter_mut().zip(reasons) {
        clock = at("08:00:00").plus_seconds(days * 86_400);
        placed.clock = clock;
    }
    Work { input: Arc::new(input), events, clock }
}

/// How an entity fares over batches: what it did, and its state at the end. Between two batches its actor may end.
fn fare(
    batches: &[&[(&str, i64)]],
    settings: &Value,
    mut between: impl FnMut(Option<EntityRow>, Timestamp) -> Option<Option<EntityRow>>,
) -> (Vec<String>, Vec<String>) {
    let mut entity = EntityActor::<Fragile>::new(key(), None).unwrap();
    let (mut row, mut log) = (None, Vec::new());
    for reasons in batches {
        let work = on_days(reasons, settings);
        let outcome = entity.work(&work);
        log.extend(logged(&outcome.effects).into_iter().map(ToOwned::to_owned));
        row = outcome.row.or(row);
        if let Some(stored) = between(row.clone(), work.clock) {
            row.clone_from(&stored);
            entity = EntityActor::<Fragile>::new(key(), stored).unwrap();
        }
    }
    (log, entity.state)
}

#[test]
fn a_state_that_was_not_seen_for_its_time_counts_as_absent_wherever_it_was_meanwhile() {
    let settings = json!({"broken": false, "days": 2});
    let has_expired = |row: &EntityRow, clock| row.due.is_none() && row.expires.is_some_and(|at| at <= clock);
    // "e" comes on the last day on which "d" is remembered, "f" when "e" is forgotten.
    let days: [(&str, i64); 6] = [("a", 0), ("b", 1), ("c", 4), ("d", 5), ("e", 7), ("f", 10)];
    let apart: Vec<&[(&str, i64)]> = days.chunks(1).collect();
    let in_pairs: Vec<&[(&str, i64)]> = days.chunks(2).collect();
    let at_once: Vec<&[(&str, i64)]> = vec![&days];
    for batches in [&apart, &in_pairs, &at_once] {
        let in_memory = fare(batches, &settings, |_, _| None);
        assert_eq!(in_memory.1, ["f"], "{batches:?}");
        assert_eq!(in_memory, fare(batches, &settings, |row, _| Some(row)), "loaded again: {batches:?}");
        let removed = fare(batches, &settings, |row, clock| Some(row.filter(|row| !has_expired(row, clock))));
        assert_eq!(in_memory, removed, "its row has gone: {batches:?}");
    }
    assert_eq!(fare(&apart[..5], &settings, |row, _| Some(row)).1, ["c", "d", "e"]);
    assert_eq!(fare(&apart, &json!({"broken": false, "days": 0}), |_, _| None).1.len(), 6, "0 days are for ever");
}

#[test]
fn a_timer_that_waits_keeps_the_state_and_counts_as_an_event_when_it_was_due() {
    let settings = json!({"broken": false, "days": 2});
    for loads in [false, true] {
        let fare = |batches: &[&[(&str, i64)]]| fare(batches, &settings, |row, _| loads.then_some(row)).1;
        assert_eq!(fare(&[&[("in ten days", 0)], &[("a", 9)]]), ["in ten days", "a"]);
        // Nobody was there when it was due; it fires before the event that finds the state.
        assert_eq!(fare(&[&[("in ten days", 0)], &[("a", 12)]]), ["in ten days", "rang", "a"]);
        assert_eq!(fare(&[&[("in ten days", 0)], &[("a", 13)]]), ["a"], "the timer was due on day 10");
    }
}

#[test]
fn a_row_is_not_written_again_for_each_event_that_changes_nothing_but_once_a_day() {
    let settings = json!({"broken": false, "days": 2});
    let mut entity = EntityActor::<Fragile>::new(key(), None).unwrap();
    assert!(entity.work(&on_days(&[("a", 0)], &settings)).row.is_some());
    let other = |days| {
        let mut work = on_days(&[("a", days)], &settings);
        let input = Arc::get_mut(&mut work.input).unwrap();
        let event = event("S001/T1", EventType::LoggedIn, at("08:00:00"), &json!({"employeeId": "E1"}));
        input.events[0].event = Arc::new(event);
        work
    };
    assert!(entity.work(&other(0)).row.is_none());
    assert!(entity.work(&other(1)).row.is_some());
    let mut nothing = EntityActor::<Fragile>::new(key(), None).unwrap();
    assert!(nothing.work(&other(0)).row.is_none(), "one that knows nothing needs no row");
}

#[test]
fn what_the_store_refuses_is_left_out_as_if_it_had_never_come_and_timers_only_once_they_are_to_blame() {
    let refused = |timers| {
        let mut work = batch(&["a", "timer", "b"], &json!({"broken": false}));
        let position = work.input.events[0].position;
        let record = (key().partition, 1);
        let mut quarantine = Quarantine::default();
        for _ in 0..=usize::from(timers) {
            quarantine.refused_shares(record, &[Share { key: key(), events: vec![position] }]);
        }
        Arc::get_mut(&mut work.input).unwrap().refusals = Some(quarantine.refusals(&[record]));
        work
    };
    let outcome = EntityActor::<Fragile>::new(key(), None).unwrap().work(&refused(false));
    assert_eq!(state_of(&outcome), ["timer", "rang", "b"]);
    assert_eq!(outcome.failures.iter().map(|one| (one.event, one.is_refused)).collect::<Vec<_>>(), [(Some(0), true)]);
    let outcome = EntityActor::<Fragile>::new(key(), None).unwrap().work(&refused(true));
    assert_eq!(state_of(&outcome), ["timer", "b"]);
    assert_eq!(outcome.failures.len(), 2);
}
