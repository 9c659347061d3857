//! Compaction: of a compacted topic only the newest record of each key is kept. Offsets stay, with gaps.

use std::collections::HashMap;

use bytes::Bytes;
use diesel::sqlite::SqliteConnection;

use super::chunk::{self, Chunk, ChunkWriter};
use super::log::{self, SqlResult};
use super::slots::Slot;
use crate::bus::Record;

/// Fewer chunks than this below the floor are not worth a pass.
const CHUNKS_MIN: usize = 32;
/// More than this are not compacted in one pass.
const CHUNKS_MAX: i64 = 1024;

/// Rewrites the chunks of a partition below `floor` without the records that a later one replaces. Records without a key
/// stay. Returns the bytes that were freed.
pub(super) fn compact(connection: &mut SqliteConnection, slot: Slot, floor: i64) -> SqlResult<i64> {
    let old = log::oldest(connection, slot, floor, CHUNKS_MAX)?;
    let Some(end) = old.last().map(|chunk| chunk.next_offset).filter(|_| old.len() >= CHUNKS_MIN) else {
        return Ok(0);
    };
    let mut records: Vec<Record> = Vec::new();
    let mut damaged = None;
    log::visit(connection, slot, 0, |(first_offset, _, first_time, data)| {
        damaged = chunk::read(first_offset, first_time, data, 0, &mut records).err();
        Ok::<_, diesel::result::Error>(damaged.is_none())
    })?;
    if let Some(error) = damaged {
        // Left as it is: whoever reads it is told.
        tracing::error!(%error, "a compacted topic cannot be read");
        return Ok(0);
    }
    let newest: HashMap<Bytes, i64> =
        records.iter().filter_map(|record| Some((record.key.clone()?, record.offset))).collect();
    records.retain(|record| record.offset < end && record.key.as_ref().is_none_or(|key| newest[key] == record.offset));

    let chunks = rewrite(&records, end);
    let freed: i64 = old.iter().map(|chunk| chunk.bytes).sum();
    let kept: usize = chunks.iter().map(|chunk| chunk.data.len()).sum();
    log::delete(connection, &old.iter().map(|chunk| chunk.id).collect::<Vec<_>>())?;
    for chunk in &chunks {
        log::insert(connection, slot, chunk)?;
    }
    Ok(freed - i64::try_from(kept).unwrap_or(i64::MAX))
}

/// Records as chunks that reach to `end` together.
fn rewrite(records: &[Record], end: i64) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut writer: Option<ChunkWriter> = None;
    for record in records {
        let (offset, time) = (record.offset, record.timestamp.as_millis());
        let open = writer.get_or_insert_with(|| ChunkWriter::new(offset, time));
        open.push(offset, time, record.key.as_deref(), &record.value, &record.headers);
        chunks.extend(writer.take_if(|writer| writer.is_full()).map(ChunkWriter::finish));
    }
    chunks.extend(writer.map(ChunkWriter::finish));
    if let Some(last) = chunks.last_mut() {
        last.next_offset = end;
    }
    chunks
}
