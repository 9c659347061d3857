//! Which messages of a source are new, which are repeated, and which nobody can tell.

use std::collections::{BTreeMap, HashSet};

use super::event::Event;

/// How many sequences of a source are remembered.
const WINDOW: u64 = 1024;

/// What becomes of a valid event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Duplicate,
    /// Another event had this sequence.
    SequenceConflict,
    /// Too old to tell.
    BelowWindow,
}

/// What is known of one source.
#[derive(Debug, Default)]
pub(crate) struct Window {
    highest_sequence: u64,
    highest_time: i64,
    ids: BTreeMap<u64, String>,
    ids_without_sequence: HashSet<String>,
}

impl Window {
    /// Judges the next event of this source and remembers it if it is new.
    pub(crate) fn judge(&mut self, event: &Event) -> Verdict {
        let Some(sequence) = event.sequence else {
            return if self.ids_without_sequence.insert(event.id.clone()) {
                self.highest_time = self.highest_time.max(event.time);
                Verdict::New
            } else {
                Verdict::Duplicate
            };
        };
        if sequence + WINDOW <= self.highest_sequence {
            if event.time <= self.highest_time {
                return Verdict::BelowWindow;
            }
            // The terminal began to count anew.
            self.ids.clear();
            self.highest_sequence = 0;
        }
        match self.ids.get(&sequence) {
            Some(id) if *id == event.id => return Verdict::Duplicate,
            Some(_) => return Verdict::SequenceConflict,
            None => {}
        }
        self.ids.insert(sequence, event.id.clone());
        self.highest_sequence = self.highest_sequence.max(sequence);
        self.highest_time = self.highest_time.max(event.time);
        let lowest = (self.highest_sequence + 1).saturating_sub(WINDOW);
        self.ids = self.ids.split_off(&lowest);
        Verdict::New
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{BelowWindow, Duplicate, New, SequenceConflict};
    use super::*;
    use crate::oracle::case::{employee, message};
    use crate::oracle::event;

    fn judge(window: &mut Window, id: &str, sequence: u64, time: &str) -> Verdict {
        let bytes = message("T1", id, sequence, time, "drawer.opened", &employee("E1"));
        window.judge(&event::read(&bytes).unwrap())
    }

    #[test]
    fn an_event_counts_once_and_gaps_may_be_filled_later() {
        let mut window = Window::default();
        assert_eq!(judge(&mut window, "a", 5, "08:00:00"), New);
        assert_eq!(judge(&mut window, "b", 3, "08:00:01"), New);
        assert_eq!(judge(&mut window, "a", 5, "08:00:00"), Duplicate);
        assert_eq!(judge(&mut window, "c", 3, "08:00:02"), SequenceConflict);
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
    }
}
