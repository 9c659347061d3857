//! The SQL of the log: its tables, and every statement on them.
//!
//! Rows are appended in order of their ids; one covering index finds them by partition and offset.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::chunk::Chunk;
use super::slots::{Slot, Slots};
use crate::sqlite::BUSY_TIMEOUT_MS;

/// An error of a statement.
pub(super) type SqlResult<T> = Result<T, diesel::result::Error>;

diesel::table! {
    chunks (id) {
        id -> BigInt,
        slot -> Integer,
        first_offset -> BigInt,
        next_offset -> BigInt,
        first_time -> BigInt,
        last_time -> BigInt,
        bytes -> BigInt,
        data -> Binary,
    }
}

diesel::table! {
    lanes (lane) {
        lane -> Text,
        position -> BigInt,
    }
}

diesel::table! {
    properties (name) {
        name -> Text,
        value -> Text,
    }
}

/// 16 KB pages: a chunk of compressed events takes a few, and appending is twice as fast as with SQLite's 4 KB.
pub(super) const PAGE_BYTES: i64 = 16 * 1024;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS chunks (
        id INTEGER PRIMARY KEY,
        slot INTEGER NOT NULL,
        first_offset INTEGER NOT NULL,
        next_offset INTEGER NOT NULL,
        first_time INTEGER NOT NULL,
        last_time INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        data BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS chunks_by_offset ON chunks (slot, next_offset, first_offset, last_time, bytes);
    CREATE TABLE IF NOT EXISTS lanes (lane TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS properties (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

/// A property, if the log has it.
pub(super) fn stored_property(connection: &mut SqliteConnection, name: &str) -> SqlResult<Option<String>> {
    properties::table.find(name).select(properties::value).first(connection).optional()
}

/// Opens the file for the one thread that writes.
pub(super) fn open_writer(path: &Path) -> ConnectionResult<SqliteConnection> {
    let mut connection = establish(path)?;
    // No automatic checkpoints: they would stall an append; the checkpoint thread runs them.
    // A small cache: appends touch the last pages only, and what has been written is read by other connections.
    let pragmas = format!(
        "PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -4096;"
    );
    connection.batch_execute(&pragmas).map_err(ConnectionError::CouldntSetupConfiguration)?;
    connection.batch_execute(SCHEMA).map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// Opens the file for reading, or for checkpoints.
pub(super) fn open_reader(path: &Path) -> ConnectionResult<SqliteConnection> {
    let mut connection = establish(path)?;
    connection
        .batch_execute("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

fn establish(path: &Path) -> ConnectionResult<SqliteConnection> {
    let name = path.to_str().ok_or_else(|| ConnectionError::BadConnection("the path is not UTF-8".to_owned()))?;
    let mut connection = SqliteConnection::establish(name)?;
    connection
        .batch_execute(&format!("PRAGMA busy_timeout = {BUSY_TIMEOUT_MS};"))
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// Runs statements as one transaction. After an error the connection must be dropped, which rolls back: SQLite has often
/// done so by itself (disk full), and Diesel's own transactions would then report the failed rollback instead.
pub(super) fn transaction<T>(
    connection: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> SqlResult<T>,
) -> SqlResult<T> {
    connection.batch_execute("BEGIN IMMEDIATE")?;
    let result = work(connection)?;
    connection.batch_execute("COMMIT")?;
    Ok(result)
}

/// A property of the log, such as its identity; stores `value` if it has none yet.
pub(super) fn property(connection: &mut SqliteConnection, name: &str, value: &str) -> SqlResult<String> {
    diesel::insert_or_ignore_into(properties::table)
        .values((properties::name.eq(name), properties::value.eq(value)))
        .execute(connection)?;
    properties::table.find(name).select(properties::value).first(connection)
}

/// Appends a chunk.
pub(super) fn insert(connection: &mut SqliteConnection, slot: Slot, chunk: &Chunk) -> SqlResult<()> {
    diesel::insert_into(chunks::table)
        .values((
            chunks::slot.eq(slot.number()),
            chunks::first_offset.eq(chunk.first_offset),
            chunks::next_offset.eq(chunk.next_offset),
            chunks::first_time.eq(chunk.first_time),
            chunks::last_time.eq(chunk.last_time),
            chunks::bytes.eq(i64::try_from(chunk.data.len()).unwrap_or(i64::MAX)),
            chunks::data.eq(chunk.data.as_slice()),
        ))
        .execute(connection)
        .map(|_| ())
}

/// Where one partition begins and ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) low: i64,
    pub(super) high: i64,
    pub(super) last_time: i64,
}

/// Where every partition begins and ends.
pub(super) fn ends(connection: &mut SqliteConnection, slots: &Slots) -> SqlResult<Vec<Ends>> {
    let mut all = vec![Ends::default(); slots.len()];
    for slot in slots.all() {
        let of_slot = chunks::table.filter(chunks::slot.eq(slot.number()));
        let first =
            of_slot.order(chunks::next_offset.asc()).select(chunks::first_offset).first(connection).optional()?;
        let last: Option<(i64, i64)> = of_slot
            .order(chunks::next_offset.desc())
            .select((chunks::next_offset, chunks::last_time))
            .first(connection)
            .optional()?;
        let (high, last_time) = last.unwrap_or_default();
        // The newest record of every key is still there, so nothing that matters is gone.
        let low = if slots.topic(slot).is_compacted() { 0 } else { first.unwrap_or_default() };
        all[slots.index(slot)] = Ends { low, high, last_time };
    }
    Ok(all)
}

/// Bytes of all chunks.
pub(super) fn total_bytes(connection: &mut SqliteConnection) -> SqlResult<i64> {
    diesel::select(diesel::dsl::sql::<BigInt>("(SELECT COALESCE(SUM(bytes), 0) FROM chunks)")).first(connection)
}

/// A chunk as it is read: first offset, next offset, first time, data.
pub(super) type StoredChunk = (i64, i64, i64, Vec<u8>);

/// Calls `each` with the chunks that reach beyond `offset`, in order, until it says that it has enough (`false`).
pub(super) fn visit<E: From<diesel::result::Error>>(
    connection: &mut SqliteConnection,
    slot: Slot,
    offset: i64,
    mut each: impl FnMut(StoredChunk) -> Result<bool, E>,
) -> Result<(), E> {
    let rows = chunks::table
        .filter(chunks::slot.eq(slot.number()).and(chunks::next_offset.gt(offset)))
        .order(chunks::next_offset.asc())
        .select((chunks::first_offset, chunks::next_offset, chunks::first_time, chunks::data))
        .load_iter::<StoredChunk, diesel::connection::DefaultLoadingMode>(connection)?;
    for row in rows {
        if !each(row?)? {
            break;
        }
    }
    Ok(())
}

/// The first chunk with a record at or after that time (milliseconds).
pub(super) fn chunk_at(connection: &mut SqliteConnection, slot: Slot, time: i64) -> SqlResult<Option<StoredChunk>> {
    chunks::table
        .filter(chunks::slot.eq(slot.number()).and(chunks::last_time.ge(time)))
        .order(chunks::next_offset.asc())
        .select((chunks::first_offset, chunks::next_offset, chunks::first_time, chunks::data))
        .first(connection)
        .optional()
}

/// What retention needs to know of a chunk.
#[derive(Debug, Clone, Queryable)]
pub(super) struct ChunkInfo {
    pub(super) id: i64,
    pub(super) next_offset: i64,
    pub(super) last_time: i64,
    pub(super) bytes: i64,
}

/// The oldest chunks of a partition that end at or below `floor`, at most `limit`.
pub(super) fn oldest(
    connection: &mut SqliteConnection,
    slot: Slot,
    floor: i64,
    limit: i64,
) -> SqlResult<Vec<ChunkInfo>> {
    chunks::table
        .filter(chunks::slot.eq(slot.number()).and(chunks::next_offset.le(floor)))
        .order(chunks::next_offset.asc())
        .select((chunks::id, chunks::next_offset, chunks::last_time, chunks::bytes))
        .limit(limit)
        .load(connection)
}

/// Removes chunks.
pub(super) fn delete(connection: &mut SqliteConnection, ids: &[i64]) -> SqlResult<()> {
    diesel::delete(chunks::table.filter(chunks::id.eq_any(ids))).execute(connection).map(|_| ())
}

/// The position of a lane.
pub(super) fn lane(connection: &mut SqliteConnection, lane: &str) -> SqlResult<Option<i64>> {
    lanes::table.find(lane).select(lanes::position).first(connection).optional()
}

/// Moves a lane on.
pub(super) fn set_lane(connection: &mut SqliteConnection, lane: &str, position: i64) -> SqlResult<()> {
    diesel::replace_into(lanes::table)
        .values((lanes::lane.eq(lane), lanes::position.eq(position)))
        .execute(connection)
        .map(|_| ())
}
