use std::collections::HashMap;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::sighting::hash_id;
use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// Received long after its time, with one content.
fn arrival(sequence: Option<u64>, id: &str, second: i64) -> Arrival<'_> {
    Arrival { id, sequence, content: 7, time: at(second), received: at(1_000_000) }
}

fn admit(window: &mut Window, sequence: u64, id: &str, second: i64) -> Verdict {
    window.admit(&arrival(Some(sequence), id, second))
}

const NEW: Verdict = Verdict::New { gap: 0 };

#[test]
fn a_repeat_is_dropped_and_a_late_one_fills_its_gap() {
    let mut window = Window::default();
    assert_eq!(admit(&mut window, 1, "a", 1), NEW);
    assert_eq!(admit(&mut window, 4, "d", 4), Verdict::New { gap: 2 });
    assert_eq!(admit(&mut window, 2, "b", 2), NEW);
    assert_eq!(admit(&mut window, 2, "b", 2), Verdict::Duplicate);
    assert_eq!(admit(&mut window, 4, "d", 4), Verdict::Duplicate);
    assert_eq!(admit(&mut window, 4, "x", 5), Verdict::SequenceConflict);
}

#[test]
fn a_counter_that_restarts_begins_a_new_window_and_old_ones_are_refused() {
    let mut window = Window::default();
    admit(&mut window, 5000, "a", 100);
    assert_eq!(admit(&mut window, 1, "old", 50), Verdict::BelowWindow);
    assert_eq!(admit(&mut window, 1, "new", 200), NEW);
    assert_eq!(admit(&mut window, 2, "next", 201), NEW);
    assert_eq!(admit(&mut window, 1, "new", 200), Verdict::Duplicate);
    assert_eq!(admit(&mut window, 5000, "a", 100), Verdict::Duplicate, "what was sent before is known by its id");
}

#[test]
fn a_source_first_seen_in_the_middle_may_still_deliver_what_came_before() {
    let mut window = Window::default();
    assert_eq!(admit(&mut window, 10, "j", 10), NEW);
    assert_eq!(admit(&mut window, 9, "i", 9), NEW);
    assert_eq!(admit(&mut window, 9, "i", 9), Verdict::Duplicate);
}

#[test]
fn without_a_sequence_recent_ids_decide() {
    let mut window = Window::default();
    assert_eq!(window.admit(&arrival(None, "a", 1)), NEW);
    assert_eq!(window.admit(&arrival(None, "a", 1)), Verdict::Duplicate);
    assert_eq!(window.admit(&arrival(None, "b", 1)), NEW);
}

#[test]
fn another_content_under_a_known_id_is_a_conflict_with_and_without_a_sequence_and_under_another_one() {
    let mut window = Window::default();
    let sale = |sequence, content| Arrival { content, ..arrival(sequence, "sale", 1) };
    assert_eq!(window.admit(&sale(Some(5), 100)), NEW);
    assert_eq!(window.admit(&sale(Some(5), 9900)), Verdict::IdConflict);
    assert_eq!(window.admit(&sale(Some(6), 9900)), Verdict::IdConflict);
    assert_eq!(window.admit(&sale(None, 9900)), Verdict::IdConflict);
    assert_eq!(window.admit(&sale(Some(6), 100)), Verdict::Duplicate);
    assert_eq!(window.admit(&sale(None, 100)), Verdict::Duplicate);
    let unnumbered = |content| Arrival { content, ..arrival(None, "other", 2) };
    assert_eq!(window.admit(&unnumbered(1)), NEW);
    assert_eq!(window.admit(&unnumbered(2)), Verdict::IdConflict);
    assert_eq!(window.admit(&Arrival { sequence: Some(6), ..unnumbered(1) }), Verdict::Duplicate);
    assert_eq!(window.highest(), 5, "none of these has moved the window");
}

#[test]
fn one_sequence_far_ahead_costs_nothing_of_what_follows() {
    let mut window = Window::default();
    for sequence in 1..=3 {
        admit(&mut window, sequence, &format!("id-{sequence}"), 1);
    }
    assert_eq!(admit(&mut window, 1 << 53, "poison", 1), NEW);
    assert_eq!(window.highest(), 3);
    assert_eq!(admit(&mut window, 4, "id-4", 1), NEW);
    assert_eq!(admit(&mut window, 1 << 53, "poison", 1), Verdict::Duplicate);
    assert_eq!(admit(&mut window, 1 << 53, "poison again", 1), NEW, "the same number again confirms nothing");
    assert_eq!(admit(&mut window, 5, "id-5", 1), NEW);
    assert_eq!(admit(&mut window, (1 << 53) - 1, "and again", 1), NEW, "neither does one after others");
    assert_eq!((admit(&mut window, 6, "id-6", 1), window.highest()), (NEW, 6));
}

#[test]
fn a_source_that_goes_on_from_where_it_jumped_to_takes_its_window_along() {
    for (first, second) in [(90_000, 90_002), (90_002, 90_000)] {
        let mut window = Window::default();
        admit(&mut window, 1, "a", 1);
        assert_eq!(admit(&mut window, first, "b", 2), NEW);
        assert_eq!(admit(&mut window, 1, "a", 1), Verdict::Duplicate, "a retry in between hides nothing");
        assert_eq!(admit(&mut window, second, "c", 3), Verdict::New { gap: 89_998 + 1 });
        assert_eq!(window.highest(), 90_002);
        assert_eq!(admit(&mut window, 90_001, "late", 2), NEW);
        for (sequence, id) in [(1, "a"), (first, "b"), (second, "c"), (90_001, "late")] {
            assert_eq!(admit(&mut window, sequence, id, 1), Verdict::Duplicate, "{id}");
        }
    }
}

#[test]
fn a_young_source_that_is_installed_anew_loses_nothing_and_its_old_events_stay_known() {
    let mut window = Window::default();
    for sequence in 1..=300_i64 {
        admit(&mut window, sequence.unsigned_abs(), &format!("old-{sequence}"), sequence);
    }
    for sequence in 1..=400_i64 {
        let verdict = admit(&mut window, sequence.unsigned_abs(), &format!("new-{sequence}"), 1000 + sequence);
        assert_eq!(verdict, NEW, "{sequence}");
    }
    for sequence in 1..=300_i64 {
        let old = admit(&mut window, sequence.unsigned_abs(), &format!("old-{sequence}"), sequence);
        assert_eq!(old, Verdict::Duplicate, "{sequence}");
    }
    let stray = admit(&mut window, 7, "stray", 5);
    assert_eq!(stray, Verdict::SequenceConflict, "what is not later may have been seen under a number of before");
}

#[test]
fn a_clock_that_was_ahead_once_does_not_keep_a_counter_from_beginning_anew() {
    let mut window = Window::default();
    let now = 1_000_000;
    let sent =
        |sequence, id, second, received| Arrival { received: at(received), ..arrival(Some(sequence), id, second) };
    assert_eq!(window.admit(&sent(5000, "ahead", now * 9, now)), NEW);
    assert_eq!(window.admit(&sent(1, "still ahead", now * 8, now + 60)), Verdict::BelowWindow);
    assert_eq!(window.admit(&sent(1, "before", now - 60, now + 60)), Verdict::BelowWindow);
    assert_eq!(window.admit(&sent(1, "after", now + 60, now + 60)), NEW);
    assert_eq!(window.admit(&sent(2, "next", now + 61, now + 61)), NEW);
}

#[test]
fn a_source_whose_clock_is_always_ahead_may_begin_anew() {
    let mut window = Window::default();
    let sent = |sequence, id, second| Arrival { received: at(10), ..arrival(Some(sequence), id, second) };
    assert_eq!(window.admit(&sent(5000, "a", 500)), NEW);
    assert_eq!(window.admit(&sent(1, "b", 501)), NEW);
}

#[test]
fn a_window_that_the_version_before_has_written_is_read_and_its_contents_match_any() {
    let short = |id: &str| u32::try_from(hash_id(id) & 0xffff_ffff).unwrap();
    let mut bytes = BytesMut::new();
    bytes.put_u64_le(3);
    bytes.put_i64_le(at(9_000_000).as_millis());
    bytes.put_u16_le(3);
    for slot in [short("a"), 0, short("c")] {
        bytes.put_u32_le(slot);
    }
    bytes.put_u64_le(hash_id("unnumbered"));
    let mut window = Window::decode(&bytes, at(100)).unwrap();
    assert_eq!(admit(&mut window, 1, "a", 1), Verdict::Duplicate);
    assert_eq!(admit(&mut window, 3, "other", 1), Verdict::SequenceConflict);
    assert_eq!(window.admit(&arrival(None, "unnumbered", 1)), Verdict::Duplicate);
    assert_eq!(admit(&mut window, 2, "b", 1), NEW);
    assert_eq!(window.admit(&Arrival { content: 8, ..arrival(Some(2), "b", 1) }), Verdict::IdConflict);
    assert_eq!(admit(&mut window, 1, "installed anew", 101), NEW, "the clock bounds the time that it kept");
    let stored = window.encode();
    assert_eq!(Window::decode(&stored, Timestamp::MIN), Some(window));
    assert_eq!(Window::decode(&bytes[..bytes.len() - 1], at(100)), None);
    assert_eq!(Window::decode(&stored[..stored.len() - 1], at(100)), None);
}

/// What happens to a till's events on their way, and to the till.
#[derive(Debug, Clone)]
enum Step {
    /// The next event.
    Next,
    /// One of the last events again.
    Again(usize),
    /// The next event, but the one after it first.
    Swapped,
    /// An event with a number far ahead, once.
    Poison(u64),
    /// The counter goes on from far ahead.
    JumpTo(u64),
    /// The counter begins anew.
    Reinstalled,
    /// Another content under the id of one of the last events.
    Reused(usize),
    /// An event without a sequence.
    Unnumbered,
    /// A crash: everything from the store.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => Just(Step::Next),
        4 => (0_usize..200).prop_map(Step::Again),
        2 => Just(Step::Swapped),
        1 => (5000_u64..1 << 53).prop_map(Step::Poison),
        1 => (5000_u64..1 << 40).prop_map(Step::JumpTo),
        1 => Just(Step::Reinstalled),
        2 => (0_usize..200).prop_map(Step::Reused),
        2 => Just(Step::Unnumbered),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..300)
}

/// A till and what was sent of it.
#[derive(Default)]
struct Till {
    window: Window,
    sent: Vec<(Option<u64>, String, i64)>,
    counter: u64,
    number: u64,
}

impl Till {
    fn event(&mut self, sequence: Option<u64>) -> (Option<u64>, String, i64) {
        self.number += 1;
        let number = self.number;
        let event = (sequence, format!("id-{number}"), i64::try_from(number).unwrap());
        self.sent.push(event.clone());
        event
    }

    fn next(&mut self) -> (Option<u64>, String, i64) {
        self.counter += 1;
        self.event(Some(self.counter))
    }

    fn arrives(&mut self, (sequence, id, second): &(Option<u64>, String, i64)) -> Verdict {
        self.window.admit(&arrival(*sequence, id, *second))
    }

    /// It must be new, but for the one case that nobody can tell: its number is the very last one, or it is overtaken by one
    /// that is later, and its number was used before. Such an event is told, and not sent again here.
    fn arrives_new(&mut self, event: &(Option<u64>, String, i64), may_conflict: bool) -> Result<(), TestCaseError> {
        let is_last = event.0 == Some(self.window.highest());
        let verdict = self.arrives(event);
        if verdict == Verdict::SequenceConflict && (is_last || may_conflict) {
            self.sent.retain(|sent| sent != event);
            return Ok(());
        }
        prop_assert!(matches!(verdict, Verdict::New { .. }), "{:?}: {:?}", event, verdict);
        Ok(())
    }

    fn earlier(&self, back: usize) -> Option<(Option<u64>, String, i64)> {
        self.sent.len().checked_sub(back + 1).map(|index| self.sent[index].clone())
    }
}

proptest! {
    #[test]
    fn within_the_window_each_sequence_is_new_exactly_once(steps in prop::collection::vec(1_u64..900, 1..300)) {
        let mut window = Window::default();
        let mut seen: HashMap<u64, bool> = HashMap::new();
        for (index, sequence) in steps.into_iter().enumerate() {
            let verdict = admit(&mut window, sequence, &format!("id-{sequence}"), i64::try_from(index).unwrap());
            let repeated = seen.insert(sequence, true).is_some();
            prop_assert_eq!(verdict == Verdict::Duplicate, repeated);
            let stored = window.encode();
            prop_assert_eq!(Window::decode(&stored, Timestamp::MIN), Some(window.clone()));
        }
    }

    #[test]
    fn each_event_counts_once_whatever_happens_to_the_counter_and_on_the_way(steps in steps()) {
        let mut till = Till::default();
        for step in steps {
            match step {
                Step::Next => {
                    let event = till.next();
                    till.arrives_new(&event, false)?;
                }
                Step::Again(back) => if let Some(event) = till.earlier(back) {
                    prop_assert_eq!(till.arrives(&event), Verdict::Duplicate, "{:?}", event);
                },
                Step::Swapped => {
                    let (first, second) = (till.next(), till.next());
                    till.arrives_new(&second, false)?;
                    till.arrives_new(&first, true)?;
                }
                Step::Poison(sequence) => {
                    let event = till.event(Some(sequence));
                    till.arrives_new(&event, false)?;
                }
                Step::JumpTo(sequence) => till.counter = sequence,
                Step::Reinstalled => till.counter = 0,
                Step::Reused(back) => if let Some((sequence, id, second)) = till.earlier(back) {
                    let other = Arrival { content: 8, ..arrival(sequence, &id, second) };
                    prop_assert_eq!(till.window.admit(&other), Verdict::IdConflict, "{}", id);
                },
                Step::Unnumbered => {
                    let event = till.event(None);
                    till.arrives_new(&event, false)?;
                }
                Step::Restart => till.window = Window::decode(&till.window.encode(), Timestamp::MIN).unwrap(),
            }
        }
    }
}
