//! What the store refuses, and what came too late for its place: left out of the batch, and kept as dead letters that say
//! exactly what was left out.

use std::sync::Arc;

use super::assemble::Assembly;
use super::commit::ShardFault;
use crate::actors::BatchInput;
use crate::actors::quarantine::{Share, Withheld};
use crate::bus::{Record, Topic, TopicPartition};
use crate::effect::Position;
use crate::event::{Event, stable_id};
use crate::pipeline::chunk::{Chunk, ChunkEvent};
use crate::pipeline::source::SourceOutcome;
use crate::pipeline::{REKEYED_SCOPES, entity_partition};
use crate::store::Store;
use crate::store::model::{Commit, DeadLetter, EntityKey};
use crate::time::Timestamp;

const REASON: &str = "store_refused";

/// The shares of this batch that the store would refuse, found by halves.
pub(super) async fn shares(store: &Store, assembly: &Assembly, input: &BatchInput) -> Result<Vec<Share>, ShardFault> {
    let mut refused = Vec::new();
    let mut open: Vec<_> = Some(assembly.shares()).into_iter().filter(|shares| !shares.is_empty()).collect();
    while let Some(shares) = open.pop() {
        let Some(why) = store.refuses(Arc::new(together(shares))).await? else {
            continue;
        };
        if let [(key, _)] = shares {
            let entity = format!("{}:{}", key.scope.as_str(), key.entity);
            tracing::error!(plugin = key.plugin, entity, why, "the store refuses what follows for this entity");
            refused.push(Share { key: key.clone(), events: events_of(key, input) });
        } else {
            let (left, right) = shares.split_at(shares.len() / 2);
            open.extend([right, left]);
        }
    }
    Ok(refused)
}

fn together(shares: &[(EntityKey, Commit)]) -> Commit {
    let mut all = Commit::default();
    for (_, share) in shares {
        all.settings_epoch = share.settings_epoch;
        all.entities.extend(share.entities.iter().cloned());
        all.records.extend(share.records.iter().cloned());
        all.http.extend(share.http.iter().cloned());
        for row in &share.outbox {
            match all.outbox.iter_mut().find(|known| known.lane == row.lane) {
                Some(known) => known.records.extend(row.records.iter().cloned()),
                None => all.outbox.push(row.clone()),
            }
        }
    }
    all
}

/// The events of this batch that the entity may have got.
fn events_of(key: &EntityKey, input: &BatchInput) -> Vec<Position> {
    let is_of = |partition, scope, entity: &str| (partition, scope, entity) == (key.partition, key.scope, &*key.entity);
    let groups = input.groups.iter().filter(|group| is_of(group.partition, group.scope, &group.entity));
    groups.flat_map(|group| &group.events).map(|&index| input.events[index as usize].position).collect()
}

/// What is left of a record that the store refuses as a whole: clock, chunks and, as long as it takes it, the window.
pub(super) fn withhold(
    mut outcome: SourceOutcome,
    place: TopicPartition,
    record: &Record,
    how_much: Withheld,
    clock: Timestamp,
) -> SourceOutcome {
    let message = match how_much {
        Withheld::Events | Withheld::Window => {
            "the store refuses what follows from this message at its terminal; see the log for its words".to_owned()
        }
        Withheld::Bytes => format!("the store refuses this message; it is at offset {} of {place}", record.offset),
    };
    let mut letter = DeadLetter::of_record(place, record, clock, (REASON, None, message));
    let terminal = outcome.placed.first().and_then(|placed| placed.event.terminal_id());
    letter.entity = terminal.map(|terminal| format!("terminal:{terminal}"));
    if how_much == Withheld::Bytes {
        (letter.bytes, letter.headers) = Default::default();
    }
    if how_much >= Withheld::Window {
        outcome.windows.clear();
    }
    outcome.placed.clear();
    outcome.published.clear();
    outcome.misplaced.clear();
    outcome.dead_letters_replayed.clear();
    outcome.dead_letters = vec![letter];
    outcome
}

/// A chunk that the store refuses whatever is left out of it.
pub(super) fn chunk_letter(place: TopicPartition, record: &Record) -> DeadLetter {
    let message = "the store refuses what follows from these events; see the log for its words".to_owned();
    DeadLetter::of_record(place, record, Timestamp::MIN, (REASON, None, message))
}

/// Events below the release point, which others of the same entities have passed by now. That their source had promised that
/// none would come is a fault; nothing of it may be silent.
pub(super) fn add_lost(
    place: TopicPartition,
    record: &Record,
    lost: Chunk<Arc<Event>>,
    released: Timestamp,
    assembly: &mut Assembly,
    partitions: u32,
) {
    let source = TopicPartition::new(Topic::Events, lost.source);
    for ChunkEvent { offset, clock, event, .. } in lost.events {
        for scope in REKEYED_SCOPES {
            let Some(id) = event.entity(scope).filter(|id| entity_partition(scope, id, partitions) == place.partition)
            else {
                continue;
            };
            let entity = format!("{}:{id}", scope.as_str());
            tracing::error!(%place, chunk = record.offset, %source, offset, entity, "an event came after its place in the order across tills had passed");
            let message = format!(
                "came when {place} had passed its time ({clock}) and stood at {released}; replay it to apply it late, and report this"
            );
            let known = Record {
                offset,
                timestamp: record.timestamp,
                key: Some(event.key().to_owned().into()),
                value: event.raw.clone(),
                headers: Vec::new(),
            };
            let letter = DeadLetter::of_record(source, &known, clock, ("below_clock", None, message));
            let id = stable_id(&["dead_letter", &source.to_string(), &offset.to_string(), "", &entity]);
            assembly.add_letter(place, DeadLetter { id, entity: Some(entity), ..letter });
        }
    }
}
