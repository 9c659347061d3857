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

use std::sync::Arc;

use compact_str::CompactString;
use smallvec::SmallVec;

use crate::bus::partitioner::partition_of;
use crate::effect::Position;
use crate::event::{Event, EventData, Scope};
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
    /// Set if it must reach one plugin's entity only: an answer, or a replayed dead letter.
    pub addressee: Option<Arc<Addressee>>,
}

/// The one entity that an internal event is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressee {
    /// The plugin.
    pub plugin: CompactString,
    /// The kind of entity.
    pub scope: Scope,
    /// Its id.
    pub entity: CompactString,
    /// The dead letter that is replayed, if it is one.
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
