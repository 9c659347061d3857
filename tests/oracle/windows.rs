//! Which messages of a source are new, which are repeated, and which nobody can tell.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::event::Event;

/// How many sequences of a source are remembered, and how far it may count on at once.
const REACH: u64 = 1024;
/// How many events without a place among the sequences are remembered.
const RECENT: usize = 1024;
/// How far beyond its arrival on the bus a time is believed.
const AHEAD_MILLIS: i64 = 2000;

/// What becomes of a valid event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Duplicate,
    /// Another event had this id.
    IdConflict,
    /// Another event had this sequence.
    SequenceConflict,
    /// Too old to tell.
    BelowWindow,
}

/// An event as it is remembered.
#[derive(Debug, Clone)]
struct Known {
    id: String,
    content: (String, i64, Value),
}

/// What is known of one source.
#[derive(Debug, Default)]
pub(crate) struct Window {
    highest: u64,
    time: i64,
    claimed_time: i64,
    slots: BTreeMap<u64, Known>,
    recent: VecDeque<Known>,
    jump: Option<(u64, Known)>,
}

impl Window {
    /// Judges the next event of this source, which the bus received at this time, and remembers it if it is new.
    pub(crate) fn judge(&mut self, event: &Event, received: i64) -> Verdict {
        let known = Known { id: event.id.clone(), content: (event.kind.clone(), event.time, canonical(&event.data)) };
        if let Some(before) = self.slots.values().chain(&self.recent).find(|before| before.id == known.id) {
            return if before.content == known.content { Verdict::Duplicate } else { Verdict::IdConflict };
        }
        let believed = received.saturating_add(AHEAD_MILLIS);
        let later = event.time > self.claimed_time || (event.time > self.time && event.time <= believed);
        match event.sequence {
            None => self.remember(known),
            Some(sequence) => {
                if let Some(refusal) = self.place(sequence, known, later) {
                    return refusal;
                }
            }
        }
        self.time = self.time.max(event.time.min(believed));
        self.claimed_time = self.claimed_time.max(event.time);
        Verdict::New
    }

    /// Finds the event's place among the sequences, or says why it has none.
    fn place(&mut self, sequence: u64, known: Known, later: bool) -> Option<Verdict> {
        if self.highest == 0 {
            self.begin(sequence, known);
        } else if sequence > self.highest + REACH {
            match self.jump.take() {
                Some((from, first)) if from != sequence && from.abs_diff(sequence) < REACH => {
                    self.begin(from, first);
                    self.insert(sequence, known);
                }
                _ => {
                    self.remember(known.clone());
                    self.jump = Some((sequence, known));
                }
            }
        } else if sequence > self.highest {
            self.jump = None;
            self.insert(sequence, known);
        } else if sequence + REACH <= self.highest {
            if !later {
                return Some(Verdict::BelowWindow);
            }
            self.begin(sequence, known);
        } else if !self.slots.contains_key(&sequence) {
            self.insert(sequence, known);
        } else if later && sequence < self.highest {
            self.begin(sequence, known);
        } else {
            return Some(Verdict::SequenceConflict);
        }
        None
    }

    fn begin(&mut self, sequence: u64, known: Known) {
        for (_, before) in std::mem::take(&mut self.slots) {
            self.remember(before);
        }
        self.jump = None;
        self.highest = 0;
        self.insert(sequence, known);
    }

    fn insert(&mut self, sequence: u64, known: Known) {
        self.slots.insert(sequence, known);
        self.highest = self.highest.max(sequence);
        let lowest = (self.highest + 1).saturating_sub(REACH);
        self.slots = self.slots.split_off(&lowest);
    }

    fn remember(&mut self, known: Known) {
        self.recent.push_back(known);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}

/// A value whose spelling is gone: numbers by their value, objects without members that are null.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (None, Some(double)) if double.fract() == 0.0 && double.abs() <= 9_007_199_254_740_992.0 => {
                #[expect(clippy::cast_possible_truncation, reason = "an integer that fits")]
                let integer = double as i64;
                integer.into()
            }
            _ => value.clone(),
        },
        Value::Array(values) => values.iter().map(canonical).collect::<Vec<_>>().into(),
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            Value::Object(members.map(|(key, value)| (key.clone(), canonical(value))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{BelowWindow, Duplicate, IdConflict, New, SequenceConflict};
    use super::*;
    use crate::oracle::case::{at, employee, message};
    use crate::oracle::event;

    fn judge(window: &mut Window, id: &str, sequence: u64, time: &str) -> Verdict {
        judge_received(window, id, sequence, time, i64::MAX)
    }

    fn judge_received(window: &mut Window, id: &str, sequence: u64, time: &str, received: i64) -> Verdict {
        let bytes = message("T1", id, sequence, time, "drawer.opened", &employee("E1"));
        window.judge(&event::read(&bytes).unwrap(), received)
    }

    #[test]
    fn an_event_counts_once_and_gaps_may_be_filled_later() {
        let mut window = Window::default();
        assert_eq!(judge(&mut window, "a", 5, "08:00:00"), New);
        assert_eq!(judge(&mut window, "b", 3, "08:00:01"), New);
        assert_eq!(judge(&mut window, "a", 5, "08:00:00"), Duplicate);
        assert_eq!(judge(&mut window, "c", 3, "08:00:01"), SequenceConflict);
        assert_eq!(judge(&mut window, "c", 5, "08:00:02"), SequenceConflict);
        assert_eq!(judge(&mut window, "a", 6, "08:00:02"), IdConflict);
    }

    #[test]
    fn below_the_window_only_a_later_time_tells_a_new_count_from_an_old_event() {
        let mut window = Window::default();
        assert_eq!(judge(&mut window, "a", 1025, "08:00:00"), New);
        assert_eq!(judge(&mut window, "b", 2, "07:00:00"), New);
        assert_eq!(judge(&mut window, "c", 1, "08:00:00"), BelowWindow);
        assert_eq!(judge(&mut window, "d", 1, "08:00:01"), New);
        assert_eq!(judge(&mut window, "e", 2, "08:00:02"), New);
        assert_eq!(judge(&mut window, "d", 1, "08:00:01"), Duplicate);
        assert_eq!(judge(&mut window, "a", 1025, "08:00:00"), Duplicate);
    }

    #[test]
    fn within_the_window_too_a_later_time_tells_a_new_count() {
        let mut window = Window::default();
        assert_eq!(judge(&mut window, "a", 1, "08:00:00"), New);
        assert_eq!(judge(&mut window, "b", 2, "08:00:01"), New);
        assert_eq!(judge(&mut window, "c", 1, "08:00:02"), New);
        assert_eq!(judge(&mut window, "d", 2, "08:00:03"), New);
        assert_eq!(judge(&mut window, "a", 1, "08:00:00"), Duplicate);
        assert_eq!(judge(&mut window, "b", 2, "08:00:01"), Duplicate);
    }

    #[test]
    fn a_number_far_ahead_is_believed_once_the_next_one_goes_on_from_it() {
        let mut window = Window::default();
        assert_eq!(judge(&mut window, "a", 1, "08:00:00"), New);
        assert_eq!(judge(&mut window, "b", 1 << 53, "08:00:00"), New);
        assert_eq!(judge(&mut window, "c", 2, "08:00:00"), New);
        assert_eq!(judge(&mut window, "d", 9000, "08:00:00"), New);
        assert_eq!(judge(&mut window, "e", 9001, "08:00:00"), New);
        assert_eq!(judge(&mut window, "f", 3, "08:00:00"), BelowWindow);
        assert_eq!(judge(&mut window, "b", 1 << 53, "08:00:00"), Duplicate);
    }

    #[test]
    fn a_time_ahead_of_the_bus_is_no_proof_and_does_no_lasting_harm() {
        let mut window = Window::default();
        let now = at("08:00:00");
        assert_eq!(judge_received(&mut window, "a", 5000, "20:00:00", now), New);
        assert_eq!(judge_received(&mut window, "b", 1, "19:00:00", now + 60_000), BelowWindow);
        assert_eq!(judge_received(&mut window, "c", 1, "08:01:00", now + 60_000), New);
    }

    #[test]
    fn how_an_event_is_spelled_plays_no_part() {
        let read = |text: &str| canonical(&serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"a":1.0,"b":[2,{"c":null}]}"#), read(r#"{"b":[2e0,{}],"a":1}"#));
        assert_ne!(read(r#"{"a":1}"#), read(r#"{"a":2}"#));
    }
}
