//! Retention: removes what is too old or too much, in small steps, and never what has not been processed.

use diesel::sqlite::SqliteConnection;

use super::log::{self, ChunkInfo, SqlResult};
use super::shared::Shared;
use super::slots::Slot;
use super::{RetentionOptions, compaction};
use crate::time::Timestamp;

/// Chunks that one step looks at, for each partition.
const STEP_CHUNKS: i64 = 16;

/// What a step removed.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Stored bytes that are gone.
    pub(super) bytes: i64,
    /// First offset still there, of the partitions that lost something.
    pub(super) lows: Vec<(Slot, i64)>,
    /// True if there may be more to remove.
    pub(super) more: bool,
}

/// Removes the oldest chunks that are below their partition's floor and either too old or more than there is room for.
/// The newest chunk of a partition stays: it holds the place where the next record goes.
pub(super) fn step(
    connection: &mut SqliteConnection,
    shared: &Shared,
    options: RetentionOptions,
    total_bytes: i64,
    now: Timestamp,
) -> SqlResult<Step> {
    let mut step = Step::default();
    let mut candidates: Vec<(Slot, ChunkInfo)> = Vec::new();
    for slot in shared.slots().all() {
        let (floor, high) = (shared.floor(slot), shared.bounds(slot).high);
        if floor <= 0 {
            continue;
        }
        if shared.slots().topic(slot).is_compacted() {
            step.bytes += compaction::compact(connection, slot, floor.min(high))?;
        } else {
            let oldest = log::oldest(connection, slot, floor.min(high - 1), STEP_CHUNKS)?;
            candidates.extend(oldest.into_iter().map(|chunk| (slot, chunk)));
        }
    }
    candidates.sort_unstable_by_key(|(_, chunk)| chunk.id);

    let age_millis = i64::try_from(options.age.as_millis()).unwrap_or(i64::MAX);
    let bytes_max = i64::try_from(options.bytes).unwrap_or(i64::MAX);
    let mut ids = Vec::new();
    for (slot, chunk) in candidates {
        let too_old = now.as_millis().saturating_sub(chunk.last_time) > age_millis;
        let too_much = total_bytes - step.bytes > bytes_max;
        if too_old || too_much {
            step.bytes += chunk.bytes;
            step.lows.retain(|(other, _)| *other != slot);
            step.lows.push((slot, chunk.next_offset));
            ids.push(chunk.id);
        }
    }
    if !ids.is_empty() {
        log::delete(connection, &ids)?;
        step.more = true;
    }
    Ok(step)
}
