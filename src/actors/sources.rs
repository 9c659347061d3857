//! What the shards of one process know together of the partitions of `pos.events`: recently parsed events, and how far
//! each partition may be forgotten.
//!
//! A chunk that only refers to events leaves them where they are: retention must keep them until everybody whose chunks
//! name them has applied them, and has committed that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bus::{Bus, Topic, TopicPartition};
use crate::event::Event;
use crate::pipeline::recent::{RecentEvent, RecentEvents};
use crate::pipeline::source::Rekeying;

/// Memory for parsed events until other scopes have read of them.
const RECENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Where the owner of a partition stands, as committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Of `pos.events`: the first offset that has not been applied.
    Source(i64),
    /// Of `pos.events.rekeyed`: the offset to read on from, and for each source the first offset that may still be needed.
    Merge(i64, Vec<i64>),
}

/// Shared by all shards of one process.
#[derive(Debug)]
pub struct Sources {
    rekeying: Rekeying,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    recent: RecentEvents,
    /// By partition: the first offset that has not been applied; `None` if nobody here owns it.
    applied: Vec<Option<i64>>,
    /// By partition of `pos.events.rekeyed`: for each source the first offset that may still be needed.
    needed: Vec<Option<Vec<i64>>>,
}

impl Sources {
    /// For the partitions of a bus.
    #[must_use]
    pub fn new(bus: &dyn Bus) -> Self {
        let rekeying = if bus.sources_are_local() { Rekeying::ByReference } else { Rekeying::Whole };
        Self::with(rekeying, bus.partitions())
    }

    fn with(rekeying: Rekeying, partitions: u32) -> Self {
        let count = partitions as usize;
        let recent = RecentEvents::new(partitions, RECENT_BYTES_MAX);
        let state = State { recent, applied: vec![None; count], needed: vec![None; count] };
        Self { rekeying, state: Mutex::new(state) }
    }

    /// How other scopes get events.
    #[must_use]
    pub const fn rekeying(&self) -> Rekeying {
        self.rekeying
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps events of a partition for those who will ask for them, as far as there is room.
    pub fn keep(&self, partition: u32, events: Vec<RecentEvent>) {
        self.state().recent.keep(partition, events);
    }

    /// One rekeyed partition asks for events of a partition, by offset in ascending order; answers one by one.
    pub fn take(&self, partition: u32, offsets: impl Iterator<Item = i64>, answer: impl FnMut(Option<Arc<Event>>)) {
        self.state().recent.take(partition, offsets, answer);
    }

    /// A partition was taken and stands here. Returns the floors of retention that follow.
    #[must_use]
    pub fn takes(&self, place: TopicPartition, standing: Standing) -> Vec<(TopicPartition, i64)> {
        self.note(&mut self.state(), place, standing)
    }

    /// A partition that was taken stands here now. Returns the floors of retention that follow; none if it was left meanwhile.
    #[must_use]
    pub fn stands(&self, place: TopicPartition, standing: Standing) -> Vec<(TopicPartition, i64)> {
        let mut state = self.state();
        let number = place.partition as usize;
        let is_taken = match &standing {
            Standing::Source(_) => state.applied[number].is_some(),
            Standing::Merge(..) => state.needed[number].is_some(),
        };
        if is_taken { self.note(&mut state, place, standing) } else { Vec::new() }
    }

    fn note(&self, state: &mut State, place: TopicPartition, standing: Standing) -> Vec<(TopicPartition, i64)> {
        let mut floors = Vec::new();
        match standing {
            Standing::Source(next_offset) => {
                state.applied[place.partition as usize] = Some(next_offset);
                floors.extend(self.floor(state, place.partition));
            }
            Standing::Merge(next_offset, needed) => {
                floors.push((place, next_offset));
                state.needed[place.partition as usize] = Some(needed);
                for partition in 0..u32::try_from(state.applied.len()).expect("partitions are few") {
                    if let Some(offset) = state.needed_from(partition) {
                        state.recent.forget_below(partition, offset);
                    }
                    if self.rekeying == Rekeying::ByReference {
                        floors.extend(self.floor(state, partition));
                    }
                }
            }
        }
        floors
    }

    /// Nobody here owns this partition any more.
    pub fn left(&self, place: TopicPartition) {
        let mut state = self.state();
        if place.topic == Topic::Events {
            state.applied[place.partition as usize] = None;
            state.recent.forget_below(place.partition, i64::MAX);
        } else {
            state.needed[place.partition as usize] = None;
        }
    }

    /// The offset of a source partition that retention must keep, with all behind it; `None` while that is not known.
    fn floor(&self, state: &State, partition: u32) -> Option<(TopicPartition, i64)> {
        let applied = state.applied[partition as usize]?;
        let floor = match self.rekeying {
            Rekeying::Whole => applied,
            Rekeying::ByReference if state.needed.iter().any(Option::is_none) => return None,
            Rekeying::ByReference => applied.min(state.needed_from(partition)?),
        };
        Some((TopicPartition::new(Topic::Events, partition), floor))
    }
}

impl State {
    /// The first offset of a source partition that an owner here may still need.
    fn needed_from(&self, partition: u32) -> Option<i64> {
        self.needed.iter().flatten().map(|needed| needed[partition as usize]).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(partition: u32) -> TopicPartition {
        TopicPartition::new(Topic::Events, partition)
    }

    fn rekeyed(partition: u32) -> TopicPartition {
        TopicPartition::new(Topic::Rekeyed, partition)
    }

    #[test]
    fn retention_keeps_what_a_chunk_that_is_not_released_refers_to() {
        let sources = Sources::with(Rekeying::ByReference, 2);
        assert_eq!(sources.takes(source(0), Standing::Source(100)), []);
        assert_eq!(sources.takes(source(1), Standing::Source(50)), []);
        // Before everybody has told what they need, nothing may go.
        assert_eq!(sources.takes(rekeyed(0), Standing::Merge(7, vec![100, 50])), [(rekeyed(0), 7)]);
        let floors = sources.takes(rekeyed(1), Standing::Merge(3, vec![20, 50]));
        assert_eq!(floors, [(rekeyed(1), 3), (source(0), 20), (source(1), 50)]);
        assert_eq!(sources.stands(source(0), Standing::Source(200)), [(source(0), 20)]);
        let floors = sources.stands(rekeyed(1), Standing::Merge(4, vec![300, 60]));
        assert_eq!(floors, [(rekeyed(1), 4), (source(0), 100), (source(1), 50)]);
    }

    #[test]
    fn where_chunks_carry_events_whole_a_partition_may_go_once_it_is_applied() {
        let sources = Sources::with(Rekeying::Whole, 2);
        assert_eq!(sources.takes(source(0), Standing::Source(100)), [(source(0), 100)]);
        assert_eq!(sources.takes(rekeyed(0), Standing::Merge(7, vec![20, 50])), [(rekeyed(0), 7)]);
    }

    #[test]
    fn a_commit_that_was_in_flight_while_its_partition_was_left_holds_nothing_back() {
        let sources = Sources::with(Rekeying::Whole, 2);
        let _ = sources.takes(source(0), Standing::Source(100));
        let _ = sources.takes(rekeyed(0), Standing::Merge(7, vec![20, 50]));
        sources.left(source(0));
        sources.left(rekeyed(0));
        assert_eq!(sources.stands(source(0), Standing::Source(200)), []);
        assert_eq!(sources.stands(rekeyed(0), Standing::Merge(8, vec![30, 50])), []);
        assert_eq!(sources.state().needed_from(0), None);
    }
}
