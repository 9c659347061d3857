//! The journey of an event between bus and plugins, as plain data and functions: no actors, no I/O, no clock.
//!
//! [`source`] turns the records of a `pos.events` partition into events to apply, dead letters and chunks for other
//! scopes; [`merge`] turns the chunks of a `pos.events.rekeyed` partition back into one order across tills, and [`recent`]
//! has kept the events that these chunks refer to. [`duplicates`] decides what has been seen before.

pub mod chunk;
pub mod duplicates;
pub mod merge;
pub mod recent;
pub mod source;
pub mod till_clocks;

use std::sync::Arc;

use compact_str::CompactString;
use smallvec::SmallVec;

use crate::bus::Topic;
use crate::bus::partitioner::partition_of;
use crate::effect::Position;
use crate::event::{Event, EventData, Scope, Source};
use crate::time::Timestamp;

/// An event at its place in the order in which plugins see it.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The event; for a replayed dead letter the original one.
    pub event: Arc<Event>,
    /// Where it stands on `pos.events`.
    pub position: Position,
    /// Its effective time: the clock of its partition just after it.
    pub clock: Timestamp,
    /// True if it is older than the clock was.
    pub late: bool,
    /// True if nobody else acted at its terminal since the same employee did.
    pub same_actor: bool,
    /// Set if it must reach one plugin's entity only: an answer, or a replayed dead letter.
    pub addressee: Option<Arc<Addressee>>,
}

/// The one entity that an internal event is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressee {
    /// The plugin; `None` for every plugin that looks at this entity.
    pub plugin: Option<CompactString>,
    /// The kind of entity.
    pub scope: Scope,
    /// Its id.
    pub entity: CompactString,
    /// The dead letter that the plugin marks as replayed, if it is one.
    pub dead_letter: Option<String>,
}

/// The scopes whose state does not live at the terminal's own partition.
pub const REKEYED_SCOPES: [Scope; 3] = [Scope::Employee, Scope::Customer, Scope::Card];

/// The partition of `pos.events.rekeyed` that owns an entity.
#[must_use]
pub fn entity_partition(scope: Scope, entity: &str, partitions: u32) -> u32 {
    let mut key: SmallVec<[u8; 64]> = SmallVec::new();
    key.extend_from_slice(scope.as_str().as_bytes());
    key.push(b':');
    key.extend_from_slice(entity.as_bytes());
    partition_of(&key, partitions)
}

/// The partition that owns a plugin's state, by the topic that feeds it. `None` for topics that feed no states.
#[must_use]
pub fn state_partition(topic: Topic, scope: &str, entity: &str, partitions: u32) -> Option<u32> {
    match topic {
        Topic::Events => Some(partition_of(entity.as_bytes(), partitions)),
        Topic::Rekeyed => Some(entity_partition(Scope::from_name(scope)?, entity, partitions)),
        _ => None,
    }
}

/// The partition that owns the duplicate window of a source.
#[must_use]
pub fn window_partition(source: &str, partitions: u32) -> u32 {
    let parsed = Source::new(source).ok();
    let terminal = parsed.as_ref().and_then(Source::terminal_id);
    partition_of(terminal.unwrap_or(source).as_bytes(), partitions)
}

/// The rekeyed partitions that need an event. Looks at the event alone, never at settings, so that every owner of a
/// partition, a late one included, routes alike.
pub fn routes(event: &Event, partitions: u32, mut each: impl FnMut(u32)) {
    let mut seen = [u32::MAX; REKEYED_SCOPES.len()];
    let mut add = |index: usize, partition: u32| {
        if !seen.contains(&partition) {
            each(partition);
        }
        seen[index] = partition;
    };
    if let EventData::DeadLetterReplay(replay) = &event.data {
        if let Some(entity) = &replay.entity
            && let Some((scope, id)) = entity.split_once(':')
            && let Some(scope) = Scope::from_name(scope).filter(|scope| *scope != Scope::Terminal)
        {
            add(0, entity_partition(scope, id, partitions));
        }
        return;
    }
    if !event.is_from_terminal() {
        return;
    }
    for (index, scope) in REKEYED_SCOPES.into_iter().enumerate() {
        if let Some(entity) = event.entity(scope) {
            add(index, entity_partition(scope, entity, partitions));
        }
    }
}

#[cfg(test)]
mod owner_tests {
    use super::*;

    #[test]
    fn states_and_windows_belong_where_events_lead_to_them() {
        for partitions in [1, 8, 12, 100] {
            let of_till = partition_of(b"T0007", partitions);
            assert_eq!(state_partition(Topic::Events, "terminal", "T0007", partitions), Some(of_till));
            assert_eq!(window_partition("/stores/S001/terminals/T0007", partitions), of_till);
            let of_employee = entity_partition(Scope::Employee, "E7", partitions);
            assert_eq!(state_partition(Topic::Rekeyed, "employee", "E7", partitions), Some(of_employee));
        }
        assert_eq!(window_partition("/my", 8), partition_of(b"/my", 8));
        assert_eq!(state_partition(Topic::Plugins, "terminal", "T0007", 8), None);
    }
}
