//! What every scenario keeps to, whatever its seed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use bytes::Bytes;

use super::*;
use crate::event::{AgeOutcome, Event, EventData};

fn noisy(seed: u64) -> Options {
    Options {
        seed,
        limit: Limit::Events(6000),
        anomalies: 0.05,
        duplicates: 0.05,
        late: 0.02,
        out_of_order: 0.03,
        corrupt: 0.02,
        ..Options::default()
    }
}

fn run(options: Options) -> (Vec<RigMessage>, Vec<Label>) {
    let mut rig = Rig::new(options);
    let (mut messages, mut labels) = (Vec::new(), Vec::new());
    while let Some(message) = rig.next() {
        messages.push(message);
        labels.extend(rig.take_labels());
    }
    labels.extend(rig.take_labels());
    (messages, labels)
}

fn hash(messages: &[RigMessage]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    for message in messages {
        hasher.update(&message.key);
        hasher.update(&message.bytes);
    }
    hasher.finalize().to_vec()
}

fn parse(message: &RigMessage) -> Event {
    let text = String::from_utf8_lossy(&message.bytes).into_owned();
    Event::parse(&message.bytes).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Distinct valid events of each terminal by sequence.
fn by_terminal(messages: &[RigMessage]) -> BTreeMap<String, BTreeMap<u64, Event>> {
    let mut terminals: BTreeMap<String, BTreeMap<u64, Event>> = BTreeMap::new();
    for message in messages.iter().filter(|message| message.kind == MessageKind::Event) {
        let event = parse(message);
        assert_eq!(event.key(), message.key);
        let sequence = event.sequence.unwrap();
        assert!(terminals.entry(event.key().to_owned()).or_default().insert(sequence, event).is_none());
    }
    terminals
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let first = run(noisy(7));
    let second = run(noisy(7));
    assert_eq!(hash(&first.0), hash(&second.0));
    assert_eq!(first.1, second.1);
    assert_ne!(hash(&first.0), hash(&run(noisy(8)).0));
}

#[test]
fn faults_change_nothing_about_the_events_themselves() {
    let calm = Options { anomalies: 0.05, limit: Limit::Events(6000), seed: 7, ..Options::default() };
    let names = |messages: &[RigMessage]| {
        let events = messages.iter().filter(|message| message.kind == MessageKind::Event);
        events.map(|message| message.bytes.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&run(calm).0), names(&run(noisy(7)).0));
}

#[test]
fn counts_are_exact_and_labels_tell_what_was_sent() {
    let (messages, labels) = run(noisy(3));
    let count = |kind| messages.iter().filter(|message| message.kind == kind).count();
    let told = |kind: &str| labels.iter().filter(|label| label.kind == kind).count();
    assert_eq!(count(MessageKind::Event), 6000);
    assert_eq!(count(MessageKind::Duplicate), told("duplicate"));
    assert_eq!(count(MessageKind::Corrupt), told("corrupt"));
    assert!(told("late") > 60 && told("out_of_order") > 90 && told("duplicate") > 200 && told("corrupt") > 60);

    let originals: BTreeMap<String, Bytes> = messages
        .iter()
        .filter(|message| message.kind == MessageKind::Event)
        .map(|message| (parse(message).name(), message.bytes.clone()))
        .collect();
    assert_eq!(originals.len(), 6000);
    for label in &labels {
        assert!(!label.event_ids.is_empty() && label.event_ids.iter().all(|name| originals.contains_key(name)));
    }
    let duplicated: BTreeSet<String> = messages
        .iter()
        .filter(|message| message.kind == MessageKind::Duplicate)
        .map(|message| parse(message).name())
        .collect();
    let told: BTreeSet<String> =
        labels.iter().filter(|label| label.kind == "duplicate").map(|label| label.event_ids[0].clone()).collect();
    assert_eq!(duplicated, told);
}

#[test]
fn a_corrupt_copy_is_no_event_and_has_no_line_break() {
    let (messages, _) = run(Options { corrupt: 1.0, limit: Limit::Events(5000), ..Options::default() });
    let corrupt: Vec<&RigMessage> = messages.iter().filter(|message| message.kind == MessageKind::Corrupt).collect();
    assert_eq!(corrupt.len(), 5000);
    for message in corrupt {
        assert!(!message.bytes.contains(&b'\n'));
        assert!(Event::parse(&message.bytes).is_err(), "{:?}", message.bytes);
    }
}

#[test]
fn late_and_misplaced_events_stay_within_the_window_of_sequences() {
    let options = Options { late: 0.05, out_of_order: 0.05, duplicates: 0.1, ..noisy(5) };
    let mut highest: BTreeMap<String, u64> = BTreeMap::new();
    let mut displaced = 0;
    for message in run(options).0.iter().filter(|message| message.kind != MessageKind::Corrupt) {
        let event = parse(message);
        let highest = highest.entry(event.key().to_owned()).or_default();
        let sequence = event.sequence.unwrap();
        assert!(sequence + 1000 > *highest);
        displaced += usize::from(sequence < *highest);
        *highest = sequence.max(*highest);
    }
    assert!(displaced > 300);
}

#[test]
fn sessions_and_durations_limit_a_run() {
    let sessions = Options { limit: Limit::Sessions(12), ..Options::default() };
    let terminals = by_terminal(&run(sessions).0);
    let count = |wanted: fn(&EventData) -> bool| {
        terminals.values().flat_map(BTreeMap::values).filter(|event| wanted(&event.data)).count()
    };
    assert_eq!(count(|data| matches!(data, EventData::LoggedIn(_))), 12);
    assert_eq!(count(|data| matches!(data, EventData::LoggedOut(_))), 12);

    let hour = Options { limit: Limit::DurationMs(3_600_000), ..Options::default() };
    let end = hour.start.plus_seconds(3600);
    let (messages, _) = run(hour);
    assert!(messages.len() > 500 && messages.iter().all(|message| parse(message).time < end));
}

#[test]
fn stores_that_never_close_sell_in_the_first_second_and_event_times_follow_the_rate() {
    let start = Timestamp::parse("2026-03-01T23:30:00Z").unwrap();
    let options = Options {
        start,
        always_open: true,
        pace: Pace::EventsPerSecond(20.0),
        limit: Limit::Events(100),
        anomalies: 0.02,
        ..Options::default()
    };
    let events: Vec<Event> = run(options).0.iter().map(parse).collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event.time, start.plus_millis(50 * i64::try_from(number).unwrap()));
    }
    assert!(events[..20].iter().any(|event| matches!(event.data, EventData::ItemAdded(_))));
    assert!(events.iter().any(|event| matches!(event.data, EventData::PaymentCompleted(_))));
}

#[test]
fn money_adds_up_and_restricted_goods_are_paid_for_only_after_an_age_check() {
    let (mut payments, mut checks, mut returned) = (0, 0, 0);
    for events in by_terminal(&run(noisy(11)).0).values() {
        let mut totals: BTreeMap<String, i64> = BTreeMap::new();
        let (mut restricted, mut checked) = (BTreeMap::<String, i32>::new(), BTreeSet::new());
        for event in events.values() {
            match &event.data {
                EventData::ItemAdded(item) => {
                    let age = matches!(&*item.category, "beer" | "wine" | "spirits" | "tobacco");
                    *restricted.entry(item.basket_id.to_string()).or_default() += i32::from(age);
                    *totals.entry(item.basket_id.to_string()).or_default() += item.quantity.times(item.unit_price);
                }
                EventData::ItemVoided(item) => {
                    *totals.entry(item.basket_id.to_string()).or_default() -= item.quantity.times(item.unit_price);
                }
                EventData::DiscountApplied(discount) => {
                    *totals.entry(discount.basket_id.to_string()).or_default() -= discount.amount.minor();
                }
                EventData::ItemReturned(item) => {
                    returned += 1;
                    *totals.entry(item.basket_id.to_string()).or_default() -= item.quantity.times(item.unit_price);
                }
                EventData::SubtotalFinalized(subtotal) => {
                    let (total, rounding) =
                        (subtotal.total.minor(), subtotal.rounding.map_or(0, crate::event::SignedAmount::minor));
                    let due = crate::event::signed(total - rounding, subtotal.direction);
                    assert_eq!(due, totals[&*subtotal.basket_id]);
                    assert_eq!(total, subtotal.subtotal.minor() + subtotal.tax.minor() + rounding);
                    totals.insert(subtotal.basket_id.to_string(), crate::event::signed(total, subtotal.direction));
                }
                EventData::AgeChecked(check) => {
                    checks += 1;
                    assert!(check.minimum_age == 16 || check.minimum_age == 18);
                    checked.insert((check.basket_id.to_string(), check.outcome == AgeOutcome::Refused));
                }
                EventData::PaymentCompleted(payment) => {
                    payments += 1;
                    let amount = crate::event::signed(payment.amount.minor(), payment.direction);
                    assert_eq!(amount, totals[&*payment.basket_id]);
                    let basket = payment.basket_id.to_string();
                    let asked = checked.contains(&(basket.clone(), false)) || checked.contains(&(basket.clone(), true));
                    assert!(asked || restricted.get(&basket).is_none_or(|count| *count == 0) || voids(events, &basket));
                }
                _ => {}
            }
        }
    }
    assert!(payments > 300 && checks > 30 && returned > 5);
}

fn voids(events: &BTreeMap<u64, Event>, basket: &str) -> bool {
    events.values().any(|event| matches!(&event.data, EventData::ItemVoided(item) if &*item.basket_id == basket))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_till_works_in_logical_order(seed: u64, stores in 1_u32..4, terminals in 1_u32..7, employees in 1_u32..30) {
        let options = Options { stores, terminals, employees, limit: Limit::Events(4000), ..noisy(seed) };
        let (messages, _) = run(options);
        for events in by_terminal(&messages).values() {
            let sequences: Vec<u64> = events.keys().copied().collect();
            prop_assert_eq!(sequences, (1..=u64::try_from(events.len()).unwrap()).collect::<Vec<_>>());
            let mut at = Timestamp::MIN;
            let mut cashier: Option<String> = None;
            let mut open: BTreeMap<String, bool> = BTreeMap::new();
            for event in events.values() {
                prop_assert!(event.time >= at);
                at = event.time;
                match &event.data {
                    EventData::LoggedIn(session) => {
                        prop_assert_eq!(cashier.replace(session.employee_id.to_string()), None);
                    }
                    EventData::LoggedOut(session) => {
                        prop_assert_eq!(cashier.take(), Some(session.employee_id.to_string()));
                        prop_assert!(open.is_empty());
                    }
                    EventData::BasketStarted(basket) => {
                        prop_assert!(open.values().all(|suspended| *suspended));
                        prop_assert!(open.insert(basket.basket_id.to_string(), false).is_none());
                    }
                    EventData::BasketSuspended(basket) => {
                        prop_assert_eq!(open.insert(basket.basket_id.to_string(), true), Some(false));
                    }
                    EventData::BasketResumed(basket) => {
                        prop_assert_eq!(open.insert(basket.basket_id.to_string(), false), Some(true));
                    }
                    EventData::PaymentCompleted(payment) => {
                        prop_assert_eq!(open.remove(&*payment.basket_id), Some(false));
                    }
                    EventData::BasketCancelled(basket) => {
                        prop_assert_eq!(open.remove(&*basket.basket_id), Some(false));
                    }
                    EventData::ItemAdded(item) => {
                        prop_assert_eq!(open.get(&*item.basket_id), Some(&false));
                    }
                    _ => {}
                }
                prop_assert!(cashier.is_some() || matches!(event.data, EventData::LoggedOut(_)));
            }
        }
    }
}
