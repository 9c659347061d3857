//! What an intake may read: topics whose partition goes to whoever owns the partition of that number of `pos.events`.
//!
//! Ownership is a value: the epoch at which this process took its partition of `pos.events`. Taking a place requires that
//! this epoch is still the present one, so a process that was paused while its partitions went to others cannot take
//! anything back from them, whatever it believes itself.

use std::collections::BTreeMap;

use crate::bus::{Topic, TopicPartition};
use crate::status::Status;
use crate::store::model::PartitionRow;
use crate::store::{Store, StoreError};

/// The places that an intake has taken, as it left them.
pub(super) type Held = BTreeMap<TopicPartition, PartitionRow>;

/// The partitions of `pos.events` that this process owns, each with the epoch of its ownership.
pub(super) fn owned(status: &Status) -> BTreeMap<u32, i64> {
    let partitions = status.partitions().into_iter().filter(|(place, _)| place.topic == Topic::Events);
    partitions.map(|(place, figures)| (place.partition, figures.epoch.get())).collect()
}

/// Leaves what this process owns no longer, and takes what it owns by now: `wanted` names places, each with the number and
/// the epoch of its owner's partition of `pos.events`. Returns what was taken.
///
/// # Errors
/// Only faults of the store. If somebody else owns one of the partitions by now, nothing is taken and it counts as lost.
pub(super) async fn keep_up(
    store: &Store,
    status: &Status,
    held: &mut Held,
    wanted: BTreeMap<TopicPartition, (u32, i64)>,
) -> Result<Vec<PartitionRow>, StoreError> {
    held.retain(|place, _| wanted.contains_key(place));
    let missing = wanted.into_iter().filter(|(place, _)| !held.contains_key(place));
    let (places, owners): (Vec<_>, Vec<_>) =
        missing.map(|(place, (number, epoch))| (place, (TopicPartition::new(Topic::Events, number), epoch))).unzip();
    if places.is_empty() {
        return Ok(Vec::new());
    }
    match store.take_as_owner(places, owners.clone()).await {
        Ok(rows) => {
            held.extend(rows.iter().map(|row| (row.partition, row.clone())));
            Ok(rows)
        }
        Err(error) => {
            if let StoreError::Fenced(place) = error
                && let Some((_, epoch)) = owners.iter().find(|(owner, _)| *owner == place)
            {
                status.partition_fenced(place, *epoch);
            }
            Err(error)
        }
    }
}
