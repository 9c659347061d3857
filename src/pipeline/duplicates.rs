//! What has been seen before: per partition and source a window over the last sequences, and a list of recent ids.
//!
//! The pair (source, id) decides what is known; its content says whether what is known comes again, or another event has
//! its id. The sequence says how far back a window reaches. The rules are in docs/duplicates.md. A window is part of the
//! commit, so after a crash it stands exactly where the offsets stand.

mod sighting;
mod stored;

use std::collections::VecDeque;

use sighting::{Filter, Sighting};

use super::source::AHEAD_OF_BUS_MS;
use crate::time::Timestamp;

/// How many sequences back a source may repeat or deliver late, and how far it may jump ahead at once.
pub const SEQUENCES: u64 = 1024;
/// How many ids are remembered of events that have no place in the window.
pub const RECENT_IDS_MAX: usize = 1024;

/// What the window says of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before.
    New {
        /// Sequences that were skipped just before it.
        gap: u64,
    },
    /// Seen before: drop it.
    Duplicate,
    /// Another event had this id.
    IdConflict,
    /// Another event had this sequence.
    SequenceConflict,
    /// So far back, and not later, that nobody can tell whether it was seen.
    BelowWindow,
}

/// An event as it arrives at its window.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The event's id.
    pub id: &'a str,
    /// Its sequence, if it has one.
    pub sequence: Option<u64>,
    /// The hash of its content.
    pub content: u64,
    /// The event's own time.
    pub time: Timestamp,
    /// When the bus received it.
    pub received: Timestamp,
}

/// A jump that nothing has confirmed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Jump {
    sequence: u64,
    seen: Sighting,
}

/// The memory of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Highest sequence seen; 0 before the first.
    highest: u64,
    /// Highest time seen, each bounded by what the bus saw.
    time: Timestamp,
    /// Highest time seen as events say it.
    claimed_time: Timestamp,
    /// Sequences `highest - len + 1 ..= highest`; 0 = not seen.
    slots: VecDeque<u64>,
    /// Events that have no slot: they came without a sequence, or far ahead, or before the counter began anew.
    recent: VecDeque<u64>,
    /// The last event, if it was too far ahead to move the window.
    jump: Option<Jump>,
    /// Hash of the employee who acted last at this source; 0 = nobody yet.
    actor: u64,
    filter: Filter,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            highest: 0,
            time: Timestamp::MIN,
            claimed_time: Timestamp::MIN,
            slots: VecDeque::new(),
            recent: VecDeque::new(),
            jump: None,
            actor: 0,
            filter: Filter::default(),
        }
    }
}

impl Window {
    /// The highest sequence seen; 0 before the first.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// Remembers who acts at this source. True if the same employee was the last one.
    pub fn acts(&mut self, employee: &str) -> bool {
        let actor = Sighting::new(employee, 0).bits();
        std::mem::replace(&mut self.actor, actor) == actor
    }

    /// Decides on an event and remembers it if it is new.
    pub fn admit(&mut self, arrival: &Arrival<'_>) -> Verdict {
        let seen = Sighting::new(arrival.id, arrival.content);
        if let Some(known) = self.known(arrival.sequence, seen) {
            return if known.has_content_of(seen) { Verdict::Duplicate } else { Verdict::IdConflict };
        }
        let verdict = if let Some(sequence) = arrival.sequence {
            self.admit_sequence(sequence, seen, self.is_later(arrival))
        } else {
            self.remember(seen);
            Verdict::New { gap: 0 }
        };
        if matches!(verdict, Verdict::New { .. }) {
            self.filter.add(seen);
            self.time = self.time.max(bounded(arrival));
            self.claimed_time = self.claimed_time.max(arrival.time);
        }
        verdict
    }

    /// What was seen under this id.
    fn known(&mut self, sequence: Option<u64>, seen: Sighting) -> Option<Sighting> {
        // A repetition nearly always has the sequence that it had before.
        let own = sequence.and_then(|sequence| self.slot(sequence)).filter(|slot| slot.has_id_of(seen));
        if own.is_some() {
            return own;
        }
        let all = || self.slots.iter().chain(&self.recent).filter_map(|bits| Sighting::from_bits(*bits));
        if !self.filter.may_hold(seen, self.slots.len() + self.recent.len(), all()) {
            return None;
        }
        all().find(|known| known.is_whole() && known.has_id_of(seen))
    }

    /// What was seen under this sequence.
    fn slot(&self, sequence: u64) -> Option<Sighting> {
        let back = usize::try_from(self.highest.checked_sub(sequence)?).ok()?;
        let index = self.slots.len().checked_sub(back + 1)?;
        Sighting::from_bits(self.slots[index])
    }

    /// True if the event is later than everything seen, so that it cannot be one of those that were forgotten.
    fn is_later(&self, arrival: &Arrival<'_>) -> bool {
        let is_ahead = arrival.time > bounded(arrival);
        arrival.time > self.claimed_time || (!is_ahead && arrival.time > self.time)
    }

    fn admit_sequence(&mut self, sequence: u64, seen: Sighting, is_later: bool) -> Verdict {
        if self.highest == 0 {
            // A source seen for the first time may well begin in the middle: that is no gap.
            self.begin(sequence, seen);
            return Verdict::New { gap: 0 };
        }
        if sequence > self.highest {
            if sequence - self.highest > SEQUENCES {
                return self.admit_jump(sequence, seen);
            }
            self.jump = None;
            return self.admit_next(sequence, seen);
        }
        let back = self.highest - sequence;
        if back >= SEQUENCES {
            if !is_later {
                return Verdict::BelowWindow;
            }
            self.begin(sequence, seen);
            return Verdict::New { gap: 0 };
        }
        if self.slot(sequence).is_none() {
            self.fill(back, seen);
            return Verdict::New { gap: 0 };
        }
        if back > 0 && is_later {
            self.begin(sequence, seen);
            return Verdict::New { gap: 0 };
        }
        Verdict::SequenceConflict
    }

    /// A sequence within reach of the highest.
    fn admit_next(&mut self, sequence: u64, seen: Sighting) -> Verdict {
        let skipped = sequence - self.highest - 1;
        for _ in 0..skipped {
            self.push(0);
        }
        self.push(seen.bits());
        self.highest = sequence;
        Verdict::New { gap: skipped }
    }

    /// A sequence that would leave nothing of the window. The first one of its kind moves nothing: it may be a fault, which
    /// must not cost what follows. The next one close to it shows that the source goes on from there.
    fn admit_jump(&mut self, sequence: u64, seen: Sighting) -> Verdict {
        let is_close = |jump: &Jump| (1..SEQUENCES).contains(&jump.sequence.abs_diff(sequence));
        if let Some(jump) = self.jump.filter(is_close) {
            let between = jump.sequence.abs_diff(sequence) - 1;
            let gap = jump.sequence.min(sequence) - self.highest - 1 + between;
            self.begin(jump.sequence, jump.seen);
            if sequence > jump.sequence {
                self.admit_next(sequence, seen);
            } else {
                self.fill(jump.sequence - sequence, seen);
            }
            return Verdict::New { gap };
        }
        self.remember(seen);
        self.jump = Some(Jump { sequence, seen });
        Verdict::New { gap: 0 }
    }

    /// The source counts from here on. What it sent before is known by its ids.
    fn begin(&mut self, sequence: u64, seen: Sighting) {
        let before = std::mem::take(&mut self.slots);
        for sighting in before.into_iter().filter_map(Sighting::from_bits).filter(|known| known.is_whole()) {
            self.remember(sighting);
        }
        self.jump = None;
        self.highest = sequence;
        self.push(seen.bits());
    }

    /// Fills the slot so far back, which is empty.
    fn fill(&mut self, back: u64, seen: Sighting) {
        let back = usize::try_from(back).expect("below 1024");
        // What lies before the first sequence ever seen of this source is an empty slot.
        while self.slots.len() <= back {
            self.slots.push_front(0);
        }
        let index = self.slots.len() - 1 - back;
        self.slots[index] = seen.bits();
    }

    fn push(&mut self, slot: u64) {
        if self.slots.len() as u64 == SEQUENCES {
            self.slots.pop_front();
        }
        self.slots.push_back(slot);
    }

    fn remember(&mut self, seen: Sighting) {
        if self.recent.len() == RECENT_IDS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(seen.bits());
    }
}

/// The event's time, but no later than the bus can have seen it.
fn bounded(arrival: &Arrival<'_>) -> Timestamp {
    arrival.time.min(arrival.received.plus_millis(AHEAD_OF_BUS_MS))
}

#[cfg(test)]
mod tests;
