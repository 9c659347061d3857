//! What the store refuses for good, narrowed down: first to one record, then to the entities whose share of it is refused.
//!
//! A record's chunks are on the bus before its commit is refused, so the record keeps its effect on clock, windows and chunks.
//! What is left out becomes dead letters of exactly that: a plugin and an entity; and only where no such share is to blame
//! the record's part in its own partition. Replaying one applies what was left out and nothing else.

use std::collections::{HashMap, HashSet};

use crate::bus::{Topic, TopicPartition};
use crate::effect::Position;
use crate::store::model::EntityKey;

/// Where a record stands.
pub type Place = (TopicPartition, i64);

/// One entity's share of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Whose.
    pub key: EntityKey,
    /// The events in it; none if a timer alone woke the entity.
    pub events: Vec<Position>,
}

/// How much of a record is left out, where no share of an entity is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Withheld {
    /// What plugins and other partitions would get of it here.
    Events,
    /// Its duplicate window as well.
    Window,
    /// Its bytes as well: the dead letter only says where they are.
    Bytes,
}

/// What an entity does not get.
#[derive(Debug, Clone, Default)]
struct Refused {
    events: HashSet<Position>,
    /// The events alone were not to blame: timers do not fire either.
    timers: bool,
}

/// What entities do not get of one batch.
#[derive(Debug, Clone, Default)]
pub struct Refusals(HashMap<EntityKey, Refused>);

impl Refusals {
    /// True if the entity does not get this event.
    #[must_use]
    pub fn refuses_event(&self, key: &EntityKey, event: Position) -> bool {
        self.0.get(key).is_some_and(|refused| refused.events.contains(&event))
    }

    /// True if the entity's timers do not fire.
    #[must_use]
    pub fn refuses_timers(&self, key: &EntityKey) -> bool {
        self.0.get(key).is_some_and(|refused| refused.timers)
    }
}

/// A record that the store has refused.
#[derive(Debug, Clone, Default)]
struct Suspect {
    refusals: Refusals,
    withheld: Option<Withheld>,
}

/// What the store has refused of the partitions of one shard and has not been committed in another form yet.
#[derive(Debug, Clone, Default)]
pub struct Quarantine(HashMap<Place, Suspect>);

impl Quarantine {
    /// True if nothing was refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if the shares of this record are to be tried one by one.
    #[must_use]
    pub fn suspects(&self, record: Place) -> bool {
        self.0.contains_key(&record)
    }

    /// A record was refused as a whole: at first its shares are tried, and if none of them is to blame more and more of it
    /// is left out.
    pub fn refused(&mut self, record: Place) {
        if let Some(suspect) = self.0.get_mut(&record) {
            suspect.withheld = Some(match suspect.withheld {
                None => Withheld::Events,
                Some(Withheld::Events) => Withheld::Window,
                Some(Withheld::Window | Withheld::Bytes) => Withheld::Bytes,
            });
        } else {
            self.0.insert(record, Suspect::default());
        }
    }

    /// These shares of a record were refused. One that was refused before owes it to its timers.
    pub fn refused_shares(&mut self, record: Place, shares: &[Share]) {
        let Suspect { refusals, .. } = self.0.entry(record).or_default();
        for Share { key, events } in shares {
            let is_known = refusals.0.contains_key(key);
            let refused = refusals.0.entry(key.clone()).or_default();
            refused.timers |= is_known || events.is_empty();
            refused.events.extend(events);
        }
    }

    /// How much of a record is left out.
    #[must_use]
    pub fn withheld(&self, record: Place) -> Option<Withheld> {
        self.0.get(&record)?.withheld
    }

    /// What entities do not get of a batch with these records.
    #[must_use]
    pub fn refusals(&self, records: &[Place]) -> Refusals {
        let suspects = records.iter().filter_map(|record| self.0.get(record));
        Refusals(suspects.flat_map(|suspect| suspect.refusals.0.clone()).collect())
    }

    /// These partitions are somebody else's now.
    pub fn leave(&mut self, partitions: &[u32]) {
        self.0.retain(|(place, _), _| !partitions.contains(&place.partition));
    }

    /// What stands before `next_offset` of a partition is committed, in whatever form. A chunk that is left out may be read
    /// again after that, and stays left out.
    pub fn committed(&mut self, place: TopicPartition, next_offset: i64) {
        let stays_out = |suspect: &Suspect| place.topic == Topic::Rekeyed && suspect.withheld.is_some();
        self.0.retain(|&(known, offset), suspect| known != place || offset >= next_offset || stays_out(suspect));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Scope;

    const RECORD: Place = (TopicPartition::new(Topic::Rekeyed, 1), 7);

    fn share(events: Vec<Position>) -> Share {
        let key = EntityKey { partition: RECORD.0, plugin: "p", scope: Scope::Employee, entity: "E1".to_owned() };
        Share { key, events }
    }

    #[test]
    fn a_record_is_tried_by_its_shares_before_more_and_more_of_it_is_left_out() {
        let mut quarantine = Quarantine::default();
        let withheld = (0..5).map(|_| {
            quarantine.refused(RECORD);
            assert!(quarantine.suspects(RECORD));
            quarantine.withheld(RECORD)
        });
        let withheld: Vec<_> = withheld.collect();
        let (events, window, bytes) = (Some(Withheld::Events), Some(Withheld::Window), Some(Withheld::Bytes));
        assert_eq!(withheld, [None, events, window, bytes, bytes]);
        let source = (TopicPartition::new(Topic::Events, 1), 7);
        quarantine.refused(source);
        quarantine.committed(source.0, 7);
        assert!(quarantine.suspects(source));
        quarantine.committed(source.0, 8);
        quarantine.committed(RECORD.0, 8);
        assert!(!quarantine.suspects(source) && quarantine.suspects(RECORD));
    }

    #[test]
    fn timers_fire_until_the_events_alone_are_known_not_to_be_to_blame() {
        let event = Position { partition: 0, offset: 7 };
        let share = share(vec![event]);
        let mut quarantine = Quarantine::default();
        quarantine.refused_shares(RECORD, std::slice::from_ref(&share));
        let refusals = quarantine.refusals(&[RECORD]);
        assert!(refusals.refuses_event(&share.key, event) && !refusals.refuses_timers(&share.key));
        quarantine.refused_shares(RECORD, std::slice::from_ref(&share));
        assert!(quarantine.refusals(&[RECORD]).refuses_timers(&share.key));
        assert!(!quarantine.refusals(&[(RECORD.0, 8)]).refuses_event(&share.key, event), "another record's batch");
    }
}
