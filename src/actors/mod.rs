//! The actor tree (actix): [`ingress`] hands batches to [`shard`]s; a shard has one [`plugin`] actor for each plugin,
//! and that one [`entity`] actor for each terminal, employee, customer or card in use.
//!
//! Messages go down, replies come up; a parent never blocks on a child. Backpressure is a fixed number of batches in
//! flight, held by ingress, so no mailbox grows without bound and none needs to survive: whatever dies is started again
//! from what the last commit left.

pub mod entity;
pub mod ingress;
pub mod panics;
pub mod plugin;
pub mod quarantine;
pub mod shard;
pub mod sources;
pub mod supervisor;

use std::sync::Arc;

use compact_str::CompactString;
use quarantine::Refusals;

use crate::bus::TopicPartition;
use crate::control::Snapshot;
use crate::event::Scope;
use crate::pipeline::Placed;
use crate::store::model::EntityKey;
use crate::time::Timestamp;

/// The events of one batch that are about one entity.
#[derive(Debug)]
pub struct Group {
    /// The partition whose owner holds the entity.
    pub partition: TopicPartition,
    /// The kind of entity.
    pub scope: Scope,
    /// Its id.
    pub entity: CompactString,
    /// Indexes into the batch's events, in order.
    pub events: Vec<u32>,
}

/// Everything that the plugins of one shard must look at in one batch.
#[derive(Debug)]
pub struct BatchInput {
    /// Number of the batch in its shard.
    pub batch: u64,
    /// The last batch that is known to be committed.
    pub committed: u64,
    /// The events, each once.
    pub events: Vec<Placed>,
    /// Who they are about.
    pub groups: Vec<Group>,
    /// The clocks of the partitions that this batch moved: timers up to and including them are due.
    pub clocks: Vec<(TopicPartition, Timestamp)>,
    /// The settings that hold for the whole batch.
    pub settings: Arc<Snapshot>,
    /// What the store refuses of it, if it holds a record that was refused before.
    pub refusals: Option<Refusals>,
}

impl BatchInput {
    /// True if the store refuses what follows from this event for this entity.
    #[must_use]
    pub fn refuses_event(&self, key: &EntityKey, index: u32) -> bool {
        let position = self.events[index as usize].position;
        self.refusals.as_ref().is_some_and(|refusals| refusals.refuses_event(key, position))
    }

    /// True if the store refuses what follows from this entity's timers.
    #[must_use]
    pub fn refuses_timers(&self, key: &EntityKey) -> bool {
        self.refusals.as_ref().is_some_and(|refusals| refusals.refuses_timers(key))
    }
}
