//! Whether a bus still holds what a store has read from it, and what it has yet to read.
//!
//! Offsets live in the store. On a log that ends before them, new records would get offsets that count as read: accepted,
//! and never processed. On a log that begins after them, records were removed before anybody read them.

use std::time::Duration;

use futures_util::future::join_all;

use super::{StartError, not_for_us};
use crate::bus::{Bounds, Bus, BusError, Surplus, Topic, TopicPartition};
use crate::store::Store;

/// Looks at a shared bus before it counts as older: a broker that has just become the leader may know less for a moment.
const LOOKS_MAX: u32 = 4;
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// A partition whose log does not fit to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Misfit {
    place: TopicPartition,
    next_offset: i64,
    bounds: Bounds,
}

/// How bus and store fit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fit {
    /// Why the log is older than the store, and what to do: nothing may start on it.
    pub(crate) older: Option<String>,
    /// What the bus has removed before it was read, and what to do. Other partitions can go on.
    pub(crate) lost: Option<String>,
}

/// Compares the bus with where the store stands.
///
/// # Errors
/// If the bus does not say where its partitions end.
pub(crate) async fn compare(bus: &dyn Bus, places: &[(TopicPartition, i64)]) -> Result<Fit, BusError> {
    let mut looks = 1;
    loop {
        let misfits = misfits(bus, places).await?;
        let (older, lost): (Vec<_>, Vec<_>) =
            misfits.into_iter().partition(|misfit| misfit.next_offset > misfit.bounds.high);
        if older.is_empty() || !bus.is_shared() || looks == LOOKS_MAX {
            return Ok(Fit { older: older_text(&older), lost: lost_text(&lost) });
        }
        looks += 1;
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Why a store that was never used cannot begin on this bus: partitions of `pos.events` would stay unread for good.
///
/// # Errors
/// If the bus does not say how many partitions it has.
pub(crate) async fn too_few(bus: &dyn Bus, is_bound: bool) -> Result<Option<String>, BusError> {
    let surplus = if is_bound { None } else { bus.surplus().await? };
    Ok(surplus.map(|Surplus { configured, partitions, .. }| {
        format!(
            "topic pos.events has {partitions} partitions, but {configured} are configured: set bus.partitions = {partitions}, or choose \
             another bus.topicPrefix"
        )
    }))
}

/// Binds the store to the bus, if both fit.
pub(super) async fn bind(bus: &dyn Bus, store: &Store) -> Result<(), StartError> {
    if let Some(why) = too_few(bus, store.bound_bus().await?.is_some()).await? {
        return Err(StartError::Kafka(why));
    }
    store.bind_bus(&bus.identity(), bus.partitions()).await.map_err(not_for_us)?;
    require(bus, store).await
}

/// Refuses to start on a log that is older than the store. The store is read first: others may work on both.
async fn require(bus: &dyn Bus, store: &Store) -> Result<(), StartError> {
    let rows = store.partitions().await?;
    let places: Vec<_> = rows.iter().map(|row| (row.partition, row.next_offset)).collect();
    let fit = compare(bus, &places).await?;
    if let Some(lost) = fit.lost {
        tracing::error!("{lost}");
    }
    fit.older.map_or(Ok(()), |why| Err(StartError::OlderLog(why)))
}

async fn misfits(bus: &dyn Bus, places: &[(TopicPartition, i64)]) -> Result<Vec<Misfit>, BusError> {
    let ends = join_all(places.iter().map(|(place, _)| bus.bounds(*place))).await;
    let mut misfits = Vec::new();
    for (&(place, next_offset), bounds) in places.iter().zip(ends) {
        let bounds = match bounds {
            // The log has no such topic: it is from before there was one.
            Err(BusError::Refused(_)) => Bounds::default(),
            bounds => bounds?,
        };
        if next_offset > bounds.high || (must_be_whole(place.topic) && next_offset < bounds.low) {
            misfits.push(Misfit { place, next_offset, bounds });
        }
    }
    Ok(misfits)
}

/// Every record of these topics is to be read. Of the others the newest are enough, or they are copies.
const fn must_be_whole(topic: Topic) -> bool {
    matches!(topic, Topic::Events | Topic::Rekeyed | Topic::OrderCreated)
}

fn others(misfits: &[Misfit]) -> String {
    match misfits.len() {
        0 | 1 => String::new(),
        count => format!(" ({} more partitions likewise)", count - 1),
    }
}

fn older_text(misfits: &[Misfit]) -> Option<String> {
    let Misfit { place, next_offset, bounds } = misfits.first()?;
    Some(format!(
        "the log is older than the store: {place} ends at offset {}, but the store has read it up to {next_offset}{}. What is \
         sent now would count as processed already. Was an older copy of the log put back, or a topic deleted and made anew? \
         Put back a store that is not newer than this log (the two of one backup fit), or begin with an empty store; see \
         docs/operations.md, \"A log that is older than its store\"",
        bounds.high,
        others(misfits)
    ))
}

fn lost_text(misfits: &[Misfit]) -> Option<String> {
    let Misfit { place, next_offset, bounds } = misfits.first()?;
    Some(format!(
        "the bus has removed records that nobody has read: {place} begins at offset {}, but the store has read it up to \
         {next_offset}{}: {} records are gone. Retention was shorter than the outage, or than the age of a backup; see \
         docs/operations.md, TillstreamStalled",
        bounds.low,
        others(misfits),
        misfits.iter().map(|misfit| misfit.bounds.low - misfit.next_offset).sum::<i64>()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::NewRecord;
    use crate::bus::embedded::{EmbeddedBus, RetentionOptions};

    async fn log(
        records: usize,
        retention: Option<RetentionOptions>,
    ) -> (tempfile::TempDir, std::sync::Arc<EmbeddedBus>) {
        let directory = tempfile::tempdir().unwrap();
        let bus = EmbeddedBus::open_with(directory.path().join("bus.db"), 2, retention).unwrap();
        let record = |_| NewRecord {
            topic: Topic::Events,
            partition: Some(1),
            key: None,
            value: bytes::Bytes::from_static(b"{}"),
            headers: Vec::new(),
        };
        bus.append((0..records).map(record).collect()).await.unwrap();
        (directory, bus)
    }

    #[tokio::test]
    async fn a_store_may_stand_anywhere_on_the_log_and_at_its_end() {
        let (_directory, bus) = log(10, None).await;
        let place = TopicPartition::new(Topic::Events, 1);
        for next_offset in [0, 5, 10] {
            assert_eq!(compare(&*bus, &[(place, next_offset)]).await.unwrap(), Fit::default());
        }
        let beyond = compare(&*bus, &[(place, 11)]).await.unwrap();
        let text = beyond.older.unwrap();
        assert!(text.contains("pos.events/1 ends at offset 10") && text.contains("up to 11"), "{text}");
    }

    #[tokio::test]
    async fn a_topic_that_the_log_does_not_have_yet_is_an_older_log() {
        let (_directory, bus) = log(10, None).await;
        let input = crate::bus::InputTopic::of("counter").unwrap();
        let places =
            [(TopicPartition::new(Topic::Input(input), 0), 3), (TopicPartition::new(Topic::OrderCreated, 0), 4)];
        let text = compare(&*bus, &places).await.unwrap().older.unwrap();
        assert!(text.contains("ends at offset 0") && text.contains("1 more partitions"), "{text}");
    }
}
