//! The entities that one plugin has in memory in one shard, in two forms: an actor for each that had work of late, and the
//! encoded state alone for the others. What is not here is in the store.
//!
//! An actor with its mailbox and decoded state takes several times the memory of the encoded state. So only so many are kept,
//! and whoever is idle rests: the state stays here, which also keeps what is not committed yet, and starting the actor
//! again costs no question to the store.

use actix::{Actor, Addr};
use bytes::Bytes;
use compact_str::CompactString;
use rustc_hash::FxHashMap;

use crate::actors::entity::{EntityActor, EntityOutcome, UnreadableState};
use crate::bus::TopicPartition;
use crate::event::Scope;
use crate::plugins::Plugin;
use crate::store::model::{EntityKey, EntityRow};
use crate::time::Timestamp;

/// Actors that are kept from one piece of work to the next.
const AWAKE_MAX: usize = 1000;

/// Partition, scope and id: within one plugin that is one entity.
pub(super) type EntityName = (TopicPartition, Scope, CompactString);

struct Held<P: Plugin> {
    actor: Option<Addr<EntityActor<P>>>,
    /// The state after its last work, as it is stored; empty for one that nobody has seen yet.
    state: Bytes,
    due: Option<Timestamp>,
    /// When it counts as absent.
    expires: Option<Timestamp>,
    /// The last batch with work for it.
    batch: u64,
    /// The last piece of work that it had a part in.
    turn: u64,
}

/// All entities of one plugin in one shard that are in memory.
pub(super) struct Entities<P: Plugin> {
    held: FxHashMap<EntityName, Held<P>>,
    held_max: usize,
    awake: usize,
    turn: u64,
}

impl<P: Plugin> Entities<P> {
    /// None yet; idle ones are forgotten once there are more than `held_max`.
    pub(super) fn new(held_max: usize) -> Self {
        Self { held: FxHashMap::default(), held_max, awake: 0, turn: 0 }
    }

    /// True if the entity need not be read from the store.
    pub(super) fn holds(&self, name: &EntityName) -> bool {
        self.held.contains_key(name)
    }

    /// Takes what the store says of an entity; without a row nobody has seen it yet.
    pub(super) fn insert(&mut self, name: EntityName, row: Option<EntityRow>) {
        let (state, due, expires) = row.map_or((Bytes::new(), None, None), |row| (row.state, row.due, row.expires));
        self.held.insert(name, Held { actor: None, state, due, expires, batch: 0, turn: 0 });
    }

    /// Begins another piece of work.
    pub(super) fn next_turn(&mut self) {
        self.turn += 1;
    }

    /// The entity's actor, started if it rests.
    ///
    /// # Errors
    /// If the stored state does not read back.
    pub(super) fn wake(
        &mut self,
        name: &EntityName,
        key: &EntityKey,
        batch: u64,
    ) -> Result<Addr<EntityActor<P>>, UnreadableState> {
        let held = self.held.get_mut(name).expect("read from the store before");
        (held.batch, held.turn) = (batch, self.turn);
        if let Some(actor) = &held.actor {
            return Ok(actor.clone());
        }
        let row = EntityRow { key: key.clone(), state: held.state.clone(), due: held.due, expires: held.expires };
        let actor = EntityActor::<P>::new(key.clone(), Some(row))?.start();
        held.actor = Some(actor.clone());
        self.awake += 1;
        Ok(actor)
    }

    /// Takes over what a piece of work left; returns when the entity's timer was due before it.
    pub(super) fn worked(&mut self, name: &EntityName, outcome: &EntityOutcome) -> Option<Timestamp> {
        let held = self.held.get_mut(name).expect("it was woken for this work");
        if let Some(row) = &outcome.row {
            held.state = row.state.clone();
            held.expires = row.expires;
        }
        std::mem::replace(&mut held.due, outcome.due)
    }

    /// Ends the longest idle half of the actors once there are too many.
    pub(super) fn rest(&mut self) {
        if self.awake <= AWAKE_MAX {
            return;
        }
        let mut turns: Vec<u64> =
            self.held.values().filter(|held| held.actor.is_some()).map(|held| held.turn).collect();
        let middle = turns.len() / 2;
        let (_, &mut median, _) = turns.select_nth_unstable(middle);
        for held in self.held.values_mut() {
            if held.turn <= median && held.actor.take().is_some() {
                self.awake -= 1;
            }
        }
    }

    /// Forgets the longest idle half of the entities once there are too many, as far as all they know is committed.
    pub(super) fn forget(&mut self, committed: u64) {
        if self.held.len() <= self.held_max {
            return;
        }
        let mut batches: Vec<u64> = self.held.values().map(|held| held.batch).collect();
        let middle = batches.len() / 2;
        let (_, &mut median, _) = batches.select_nth_unstable(middle);
        let mut awake = 0;
        self.held.retain(|_, held| {
            let keep = held.batch > committed || held.batch > median;
            awake += usize::from(keep && held.actor.is_some());
            keep
        });
        self.awake = awake;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Topic;
    use crate::plugins::purchase_recommender::PurchaseRecommender;

    const PLACE: TopicPartition = TopicPartition::new(Topic::Events, 0);

    fn name(number: usize) -> EntityName {
        (PLACE, Scope::Terminal, CompactString::from(format!("T{number}")))
    }

    fn wake(entities: &mut Entities<PurchaseRecommender>, number: usize, batch: u64) {
        let (partition, scope, entity) = name(number);
        let key = EntityKey { partition, plugin: PurchaseRecommender::NAME, scope, entity: entity.to_string() };
        entities.wake(&name(number), &key, batch).expect("its state reads back");
    }

    fn with_all_awake(count: usize, held_max: usize) -> Entities<PurchaseRecommender> {
        let mut entities = Entities::new(held_max);
        for number in 0..count {
            entities.next_turn();
            entities.insert(name(number), None);
            wake(&mut entities, number, number as u64);
        }
        entities
    }

    #[actix::test]
    async fn the_longest_idle_rest_and_stay_in_memory() {
        let mut entities = with_all_awake(AWAKE_MAX + 100, usize::MAX);
        entities.rest();
        assert!(entities.awake <= AWAKE_MAX / 2 + 50);
        assert_eq!(entities.held.values().filter(|held| held.actor.is_some()).count(), entities.awake);
        assert!(entities.held[&name(0)].actor.is_none() && entities.held[&name(AWAKE_MAX + 99)].actor.is_some());
        assert!(entities.holds(&name(0)));
        let awake = entities.awake;
        wake(&mut entities, 0, 5000);
        assert_eq!(entities.awake, awake + 1);
    }

    #[actix::test]
    async fn what_is_not_committed_is_never_forgotten() {
        let mut entities = with_all_awake(100, 10);
        entities.forget(0);
        assert!((1..100).all(|number| entities.holds(&name(number))), "only batch 0 is committed");
        entities.forget(99);
        assert!(!entities.holds(&name(1)) && entities.holds(&name(99)));
        assert_eq!(entities.held.values().filter(|held| held.actor.is_some()).count(), entities.awake);
    }
}
