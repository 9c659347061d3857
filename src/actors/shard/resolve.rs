//! The events behind a chunk: carried in it, kept in memory since their till's partition was read, or read from there
//! again.

use std::sync::Arc;

use super::{ShardContext, ShardFault};
use crate::bus::{BusError, Topic, TopicPartition};
use crate::effect::Position;
use crate::event::{Event, EventData};
use crate::pipeline::Placed;
use crate::pipeline::chunk::{Chunk, ChunkEvent};
use crate::pipeline::merge::Released;
use crate::pipeline::source::{addressee_of, original_of, parse};

/// Bytes that are read at once where events are no longer in memory.
const READ_BYTES: usize = 512 * 1024;
const RESTORE: &str = "restore bus and store from the same backup";

/// The chunk with its events. Left out is what does not parse.
pub(super) async fn resolve(context: &ShardContext, chunk: Chunk) -> Result<Chunk<Arc<Event>>, ShardFault> {
    let Chunk { source, from, to, clock, events } = chunk;
    let mut found: Vec<Option<Arc<Event>>> = Vec::with_capacity(events.len());
    context.sources.take(source, events.iter().map(|event| event.offset), |event| found.push(event));
    let mut missing = Vec::new();
    for (index, (event, found)) in events.iter().zip(&mut found).enumerate().filter(|(_, (_, found))| found.is_none()) {
        match &event.event {
            None => missing.push((index, event.offset)),
            Some(raw) => match Event::parse(raw) {
                Ok(parsed) => *found = Some(Arc::new(parsed)),
                Err(error) => tracing::error!(%error, "a chunk holds an event that does not parse"),
            },
        }
    }
    read_again(context, source, &missing, &mut found).await?;
    let resolved =
        events.into_iter().zip(found).filter_map(|(ChunkEvent { offset, clock, late, same_actor, .. }, event)| {
            Some(ChunkEvent { offset, clock, late, same_actor, event: event? })
        });
    Ok(Chunk { source, from, to, clock, events: resolved.collect() })
}

/// Reads events of a source partition that are not in memory: index in `found`, and offset.
async fn read_again(
    context: &ShardContext,
    source: u32,
    missing: &[(usize, i64)],
    found: &mut [Option<Arc<Event>>],
) -> Result<(), ShardFault> {
    let place = TopicPartition::new(Topic::Events, source);
    context.status.totals.read_again.add(missing.len() as u64);
    let mut missing = missing.iter().copied().peekable();
    while let Some(&(_, from)) = missing.peek() {
        let fetched = context.bus.read(place, from, READ_BYTES).await.map_err(|error| fault(place, &error))?;
        for record in fetched.records {
            if let Some((index, _)) = missing.next_if(|&(_, offset)| offset == record.offset) {
                found[index] = parse(record).into_event();
            }
        }
        let next = fetched.next_offset;
        if missing.peek().is_some_and(|&(_, offset)| offset < next || next <= from) {
            return Err(ShardFault::Failed(format!(
                "{place} does not hold what pos.events.rekeyed refers to; {RESTORE}"
            )));
        }
    }
    Ok(())
}

fn fault(place: TopicPartition, error: &BusError) -> ShardFault {
    ShardFault::Failed(match error {
        BusError::Gone { .. } => format!("{error}, to which pos.events.rekeyed refers; {RESTORE}"),
        other => format!("{place} cannot be read: {other}"),
    })
}

/// A released event at its place; `None` if it is none that plugins could see.
pub(super) fn place(released: Released<Arc<Event>>) -> Option<Placed> {
    let Released { position, event: ChunkEvent { clock, late, same_actor, event, .. } } = released;
    if let EventData::DeadLetterReplay(replay) = &event.data {
        let addressee = Some(Arc::new(addressee_of(replay)?));
        let position = Position { partition: replay.partition, offset: replay.offset };
        return Some(Placed { event: original_of(replay)?, position, clock, late, same_actor, addressee });
    }
    Some(Placed { event, position, clock, late, same_actor, addressee: None })
}
