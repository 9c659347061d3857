//! Giving a store another number of partitions, for a bus that has as many: every row goes to the partition that owns its key
//! there.
//!
//! Only while no process works on the store and nothing waits: what has been read and not applied, or decided and not
//! delivered, belongs to the old bus.

use std::time::Duration;

use super::Store;
use super::connection::{on, queries};
use super::model::StoreError;
use super::offsets::NEVER_USED;
use super::schema::{
    entities, external_plugins, leases, meta, offsets, order_outbox, outbox, plugin_starts, settings_uses, windows,
};
use crate::bus::Topic;

/// A bus, as a store remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundBus {
    /// See [`crate::bus::Bus::identity`].
    pub identity: String,
    /// Partitions of `pos.events`.
    pub partitions: u32,
}

/// The row of `meta` that names the bus before, until all that it holds has been carried over.
const ORIGIN: &str = "repartitioned_from";

impl BoundBus {
    fn to_text(&self) -> String {
        format!("{} {}", self.partitions, self.identity)
    }

    fn from_text(text: &str) -> Option<Self> {
        let (partitions, identity) = text.split_once(' ')?;
        Some(Self { identity: identity.to_owned(), partitions: partitions.parse().ok()? })
    }
}

/// Which partition owns what, among so many.
#[derive(Debug, Clone, Copy)]
pub struct Owners {
    /// The owner of a plugin's state, by the topic that feeds it, its scope and its entity. `None` if no version of this
    /// program writes such a state.
    pub of_state: fn(Topic, &str, &str, u32) -> Option<u32>,
    /// The owner of the duplicate window of a source.
    pub of_window: fn(&str, u32) -> u32,
}

/// What went to another partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// States of tills, employees, customers and cards.
    pub states: u64,
    /// Duplicate windows.
    pub windows: u64,
}

impl Store {
    /// What stands in the way of [`Store::repartition`], as sentences; nothing if it may begin. A process counts as gone after
    /// this silence.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn unfinished(&self, silence: Duration) -> Result<Vec<String>, StoreError> {
        let alive = self.processes().await?.into_iter().filter(|process| process.silent < silence);
        let mut found: Vec<String> =
            alive.map(|process| format!("process {} works on this store; stop it", process.id)).collect();
        let waiting = self.read(|database| on!(database, waiting())).await?;
        let counted = waiting.into_iter().filter(|(_, count)| *count > 0);
        found.extend(counted.map(|(what, count)| format!("{count} {what} wait; run serve --until-caught-up")));
        if !self.alerts_without_evidence(1).await?.is_empty() {
            found.push("alerts wait for their evidence to be copied; run serve --until-caught-up".to_owned());
        }
        Ok(found)
    }

    /// The bus that the store belonged to before, if what that one holds may not have been carried over whole.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn repartitioned_from(&self) -> Result<Option<BoundBus>, StoreError> {
        self.read(|database| on!(database, origin())).await
    }

    /// Everything has been carried over from the bus before.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn forget_repartitioned_from(&self) -> Result<(), StoreError> {
        self.write(|database| on!(database, forget_origin())).await
    }

    /// Moves every row to the partition of `new` that owns its key, and binds the store to that bus. Clocks go on from where
    /// the highest one stands. All or nothing.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the store does not belong to `old`.
    pub async fn repartition(&self, old: BoundBus, new: BoundBus, owners: Owners) -> Result<Moved, StoreError> {
        self.write(move |database| on!(database, rebind(&old, &new, owners))).await
    }
}

/// A partition as the tables number it.
fn number(partition: u32) -> Result<i32, StoreError> {
    i32::try_from(partition).map_err(|_| StoreError::Refused(format!("partition {partition} is out of range")))
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn origin(db: &mut Db) -> Result<Option<BoundBus>, StoreError> {
        let known: Option<String> = meta::table.find(ORIGIN).select(meta::value).first(db).optional()?;
        Ok(known.as_deref().and_then(BoundBus::from_text))
    }

    pub(in crate::store) fn forget_origin(db: &mut Db) -> Result<(), StoreError> {
        diesel::delete(meta::table.find(ORIGIN)).execute(db)?;
        Ok(())
    }

    /// What a processor, a relay or a dispatcher would still do.
    pub(in crate::store) fn waiting(db: &mut Db) -> Result<Vec<(&'static str, i64)>, StoreError> {
        Ok(vec![
            ("pieces of the outbox", outbox::table.count().get_result(db)?),
            ("HTTP calls", queries::http_calls::depth(db)?),
            ("orders that are not on the bus", order_outbox::table.count().get_result(db)?),
        ])
    }

    pub(in crate::store) fn rebind(
        db: &mut Db,
        old: &BoundBus,
        new: &BoundBus,
        owners: Owners,
    ) -> Result<Moved, StoreError> {
        db.transaction(|db| {
            for (name, known, value) in [
                ("bus_identity", old.identity.clone(), new.identity.clone()),
                ("bus_partitions", old.partitions.to_string(), new.partitions.to_string()),
            ] {
                let row = meta::table.filter(meta::name.eq(name)).filter(meta::value.eq(known));
                if diesel::update(row).set(meta::value.eq(value)).execute(db)? == 0 {
                    return Err(StoreError::Refused("the store belongs to another bus by now".to_owned()));
                }
            }
            diesel::replace_into(meta::table).values((meta::name.eq(ORIGIN), meta::value.eq(old.to_text()))).execute(db)?;
            let moved = Moved { states: move_states(db, new.partitions, owners)?, windows: move_windows(db, new.partitions, owners)? };
            begin_anew(db, new.partitions)?;
            Ok(moved)
        })
    }

    fn move_states(db: &mut Db, partitions: u32, owners: Owners) -> Result<u64, StoreError> {
        let columns = (entities::topic, entities::partition, entities::plugin, entities::scope, entities::entity);
        let keys: Vec<(String, i32, String, String, String)> = entities::table.select(columns).load(db)?;
        let mut moved = 0;
        for (topic, partition, plugin, scope, entity) in keys {
            let owner = Topic::from_name(&topic).and_then(|topic| (owners.of_state)(topic, &scope, &entity, partitions));
            let owner = owner.ok_or_else(|| {
                StoreError::Refused(format!("the store holds a state of {scope}:{entity} on {topic}, which is unknown"))
            })?;
            let owner = number(owner)?;
            if owner != partition {
                let row = entities::table.find((topic, partition, plugin, scope, entity));
                moved += diesel::update(row).set(entities::partition.eq(owner)).execute(db)? as u64;
            }
        }
        Ok(moved)
    }

    /// Sources without a terminal may have several windows, one for each partition key. They stay apart as far as there is room;
    /// where two meet, the first one stays.
    fn move_windows(db: &mut Db, partitions: u32, owners: Owners) -> Result<u64, StoreError> {
        let columns = (windows::partition, windows::source);
        let keys: Vec<(i32, String)> = windows::table.select(columns).order(columns).load(db)?;
        let mut moved = 0;
        for (partition, source) in keys {
            let owner = number((owners.of_window)(&source, partitions))?;
            if owner == partition {
                continue;
            }
            let row = windows::table.find((partition, source.as_str()));
            let known: Option<i32> =
                windows::table.find((owner, source.as_str())).select(windows::partition).first(db).optional()?;
            if known.is_none() {
                moved += diesel::update(row).set(windows::partition.eq(owner)).execute(db)? as u64;
            } else {
                diesel::delete(row).execute(db)?;
            }
        }
        Ok(moved)
    }

    /// Places on the old bus mean nothing on the new one; time goes on.
    fn begin_anew(db: &mut Db, partitions: u32) -> Result<(), StoreError> {
        let mut clocks = Vec::new();
        for topic in [Topic::Events, Topic::Rekeyed] {
            let of_topic = offsets::table.filter(offsets::topic.eq(topic.name()));
            let clock: Option<i64> = of_topic.select(diesel::dsl::max(offsets::clock)).first(db)?;
            clocks.extend(clock.map(|clock| (topic, clock)));
        }
        diesel::delete(offsets::table).execute(db)?;
        diesel::delete(settings_uses::table).execute(db)?;
        diesel::delete(plugin_starts::table).execute(db)?;
        diesel::delete(leases::table).execute(db)?;
        // Another name for the outbox: the numbers of its rows have been used up on the old bus.
        diesel::delete(meta::table.filter(meta::name.eq("identity"))).execute(db)?;
        // Plugins in other languages announce themselves anew, from the first offset of the new topic on.
        diesel::update(external_plugins::table).set(external_plugins::offset.eq(-1)).execute(db)?;
        for (topic, clock) in clocks {
            for partition in 0..partitions {
                diesel::insert_into(offsets::table)
                    .values((
                        offsets::topic.eq(topic.name()),
                        offsets::partition.eq(number(partition)?),
                        offsets::epoch.eq(0_i64),
                        offsets::version.eq(0_i64),
                        offsets::next_offset.eq(0_i64),
                        offsets::clock.eq(clock),
                        offsets::settings_epoch.eq(NEVER_USED),
                        offsets::extra.eq(Vec::<u8>::new()),
                    ))
                    .execute(db)?;
            }
        }
        Ok(())
    }
}
