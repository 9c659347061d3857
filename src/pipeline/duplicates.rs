//! What has been seen before: per partition and source a window over the last sequences, or over recent ids.
//!
//! The pair (source, id) decides what is a duplicate; the sequence only makes the question cheap. A window is part of
//! the commit, so after a crash it stands exactly where the offsets stand.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::time::Timestamp;

/// How many sequences back a source may repeat or deliver late.
pub const SEQUENCES: u64 = 1024;
/// How many ids are remembered of a source that sends no sequence.
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
    /// Another event had this sequence.
    SequenceConflict,
    /// So far back, and not newer, that nobody can tell whether it was seen.
    BelowWindow,
}

/// The memory of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// Highest sequence seen; 0 before the first.
    highest: u64,
    /// Highest event time seen with a sequence.
    highest_time: Timestamp,
    /// Hashes of the ids of sequences `highest - len + 1 ..= highest`; 0 = not seen.
    slots: VecDeque<u32>,
    /// Hashes of the last ids that came without a sequence.
    recent: VecDeque<u64>,
}

fn hash_id(id: &str) -> u64 {
    // FNV-1a: stored hashes must stay the same across versions of this program and of its libraries.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in id.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ (hash >> 32)
}

/// The 32-bit hash of a sequence's slot; never 0, which means empty.
#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
fn slot_hash(id: &str) -> u32 {
    (hash_id(id) as u32).max(1)
}

impl Window {
    /// The highest sequence seen; 0 before the first.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// Decides on an event and remembers it.
    pub fn admit(&mut self, sequence: Option<u64>, id: &str, time: Timestamp) -> Verdict {
        match sequence {
            Some(sequence) => self.admit_sequence(sequence, slot_hash(id), time),
            None => self.admit_id(hash_id(id)),
        }
    }

    fn admit_id(&mut self, hash: u64) -> Verdict {
        if self.recent.contains(&hash) {
            return Verdict::Duplicate;
        }
        if self.recent.len() == RECENT_IDS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(hash);
        Verdict::New { gap: 0 }
    }

    fn admit_sequence(&mut self, sequence: u64, hash: u32, time: Timestamp) -> Verdict {
        if sequence > self.highest {
            // A source seen for the first time may well begin in the middle: that is no gap.
            let skipped = if self.highest == 0 { 0 } else { sequence - self.highest - 1 };
            for _ in 0..skipped.min(SEQUENCES) {
                self.push(0);
            }
            self.push(hash);
            self.highest = sequence;
            self.highest_time = self.highest_time.max(time);
            return Verdict::New { gap: skipped };
        }
        let back = self.highest - sequence;
        if back >= SEQUENCES {
            if time > self.highest_time {
                *self = Self { recent: std::mem::take(&mut self.recent), ..Self::default() };
                return self.admit_sequence(sequence, hash, time);
            }
            return Verdict::BelowWindow;
        }
        // What lies before the first sequence ever seen of this source is an empty slot.
        while self.slots.len() as u64 <= back {
            self.slots.push_front(0);
        }
        let index = self.slots.len() - 1 - usize::try_from(back).expect("below 1024");
        match self.slots[index] {
            0 => {
                self.slots[index] = hash;
                self.highest_time = self.highest_time.max(time);
                Verdict::New { gap: 0 }
            }
            seen if seen == hash => Verdict::Duplicate,
            _ => Verdict::SequenceConflict,
        }
    }

    fn push(&mut self, hash: u32) {
        if self.slots.len() as u64 == SEQUENCES {
            self.slots.pop_front();
        }
        self.slots.push_back(hash);
    }

    /// The window as bytes for the store.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(24 + self.slots.len() * 4 + self.recent.len() * 8);
        bytes.put_u64_le(self.highest);
        bytes.put_i64_le(self.highest_time.as_millis());
        bytes.put_u16_le(u16::try_from(self.slots.len()).expect("at most 1024"));
        for slot in &self.slots {
            bytes.put_u32_le(*slot);
        }
        for id in &self.recent {
            bytes.put_u64_le(*id);
        }
        bytes.freeze()
    }

    /// Reads what [`Window::encode`] wrote; `None` if these are other bytes.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let highest = bytes.try_get_u64_le().ok()?;
        let highest_time = Timestamp::from_millis(bytes.try_get_i64_le().ok()?);
        let count = usize::from(bytes.try_get_u16_le().ok()?);
        if bytes.len() < count * 4 || !(bytes.len() - count * 4).is_multiple_of(8) {
            return None;
        }
        let slots = (0..count).map(|_| bytes.get_u32_le()).collect();
        let mut recent = VecDeque::with_capacity(bytes.len() / 8);
        while bytes.has_remaining() {
            recent.push_back(bytes.get_u64_le());
        }
        Some(Self { highest, highest_time, slots, recent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_repeat_is_dropped_and_a_late_one_fills_its_gap() {
        let mut window = Window::default();
        assert_eq!(window.admit(Some(1), "a", at(1)), Verdict::New { gap: 0 });
        assert_eq!(window.admit(Some(4), "d", at(4)), Verdict::New { gap: 2 });
        assert_eq!(window.admit(Some(2), "b", at(2)), Verdict::New { gap: 0 });
        assert_eq!(window.admit(Some(2), "b", at(2)), Verdict::Duplicate);
        assert_eq!(window.admit(Some(4), "d", at(4)), Verdict::Duplicate);
        assert_eq!(window.admit(Some(4), "x", at(5)), Verdict::SequenceConflict);
    }

    #[test]
    fn a_counter_that_restarts_begins_a_new_window_and_old_ones_are_refused() {
        let mut window = Window::default();
        window.admit(Some(5000), "a", at(100));
        assert_eq!(window.admit(Some(1), "old", at(50)), Verdict::BelowWindow);
        assert_eq!(window.admit(Some(1), "new", at(200)), Verdict::New { gap: 0 });
        assert_eq!(window.admit(Some(2), "next", at(201)), Verdict::New { gap: 0 });
        assert_eq!(window.admit(Some(1), "new", at(200)), Verdict::Duplicate);
    }

    #[test]
    fn a_source_first_seen_in_the_middle_may_still_deliver_what_came_before() {
        let mut window = Window::default();
        assert_eq!(window.admit(Some(10), "j", at(10)), Verdict::New { gap: 0 });
        assert_eq!(window.admit(Some(9), "i", at(9)), Verdict::New { gap: 0 });
        assert_eq!(window.admit(Some(9), "i", at(9)), Verdict::Duplicate);
    }

    #[test]
    fn without_a_sequence_recent_ids_decide() {
        let mut window = Window::default();
        assert_eq!(window.admit(None, "a", at(1)), Verdict::New { gap: 0 });
        assert_eq!(window.admit(None, "a", at(1)), Verdict::Duplicate);
        assert_eq!(window.admit(None, "b", at(1)), Verdict::New { gap: 0 });
    }

    proptest! {
        #[test]
        fn within_the_window_each_sequence_is_new_exactly_once(steps in prop::collection::vec(1_u64..900, 1..300)) {
            let mut window = Window::default();
            let mut seen: HashMap<u64, bool> = HashMap::new();
            for (index, sequence) in steps.into_iter().enumerate() {
                let verdict = window.admit(Some(sequence), &format!("id-{sequence}"), at(i64::try_from(index).unwrap()));
                let repeated = seen.insert(sequence, true).is_some();
                prop_assert_eq!(verdict == Verdict::Duplicate, repeated);
                let stored = window.encode();
                prop_assert_eq!(Window::decode(&stored), Some(window.clone()));
            }
        }
    }
}
