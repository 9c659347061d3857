//! A bound for SQLite's write-ahead log.
//!
//! Checkpoints that wait for nobody (PASSIVE) copy the log into the file beside the writer. They never start the log from
//! the beginning while anybody reads, so under a load of reads it would grow for ever. Above a size the writer therefore
//! empties it (TRUNCATE): it copies the short rest and waits for the readers of that moment. Readers that come meanwhile
//! read the file alone and need not be waited for.
//!
//! Above the first bound the writer waits a moment and tries again later. Above the second one it waits longer before every
//! transaction: then a reader that does not end, such as a backup, slows the writer down instead of filling the disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Integer;
use diesel::sqlite::SqliteConnection;

use super::BUSY_TIMEOUT_MS;
use super::disk::Disk;

/// The writer empties the log above this size, on a disk with room.
pub const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The bound is no lower, however small the disk.
const WAL_BYTES_MIN: u64 = 1024 * 1024;
/// The second bound, above which the writer waits for readers, is so many times the first.
const HARD_FACTOR: u64 = 4;
/// On a small disk the first bound is this part of what the log and the free room come to, the second twice that.
const ROOM_PART: u64 = 4;
/// After a reader was in the way, the writer tries again when the log has grown by this part of the bound.
const RETRY_PART: u64 = 8;
/// How long the writer waits for readers above the first bound, and above the second.
const PATIENCE: Duration = Duration::from_millis(50);
const HARD_PATIENCE: Duration = Duration::from_secs(2);

/// The write-ahead log of one file, and how large it may be.
#[derive(Debug)]
pub(crate) struct Wal {
    path: PathBuf,
    bytes_max: u64,
    bytes: AtomicU64,
    soft: AtomicU64,
    hard: AtomicU64,
    retry_at: AtomicU64,
    /// SQLite refuses a checkpoint while another one runs, without waiting.
    running: Mutex<()>,
}

#[derive(Debug, QueryableByName)]
struct Outcome {
    #[diesel(sql_type = Integer)]
    busy: i32,
}

impl Wal {
    /// The log beside the file at `path`, to be emptied above `bytes_max`.
    pub(super) fn new(path: &Path, bytes_max: u64) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        let wal = Self {
            path: name.into(),
            bytes_max,
            bytes: AtomicU64::new(0),
            soft: AtomicU64::new(bytes_max),
            hard: AtomicU64::new(bytes_max.saturating_mul(HARD_FACTOR)),
            retry_at: AtomicU64::new(0),
            running: Mutex::new(()),
        };
        wal.measure();
        wal
    }

    /// Looks how large the log is.
    pub(crate) fn measure(&self) -> u64 {
        let bytes = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        self.bytes.store(bytes, Ordering::Relaxed);
        bytes
    }

    /// Size in bytes, as it was measured last.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// True above the second bound: a reader does not end.
    pub(super) fn is_held(&self) -> bool {
        self.bytes() > self.hard.load(Ordering::Relaxed)
    }

    /// True if the log is to be emptied.
    pub(super) fn is_large(&self) -> bool {
        self.bytes() > self.soft.load(Ordering::Relaxed)
    }

    /// Fits the bounds to the room that the disk has now.
    pub(super) fn fit_to(&self, disk: Option<Disk>) {
        let room = disk.map_or(u64::MAX, |disk| disk.free_bytes.saturating_add(self.bytes()));
        let soft = self.bytes_max.min(room / ROOM_PART).max(WAL_BYTES_MIN.min(self.bytes_max));
        let hard = soft.saturating_mul(HARD_FACTOR).min(room / ROOM_PART * 2).max(soft);
        self.soft.store(soft, Ordering::Relaxed);
        self.hard.store(hard, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn bounds(&self) -> (u64, u64) {
        (self.soft.load(Ordering::Relaxed), self.hard.load(Ordering::Relaxed))
    }

    /// The writer's part, between two transactions: empties the log if it is above its bound.
    pub(crate) fn bound(&self, writer: &mut SqliteConnection) {
        let bytes = self.measure();
        if !self.is_large() {
            self.retry_at.store(0, Ordering::Relaxed);
            return;
        }
        let held = self.is_held();
        if !held && bytes < self.retry_at.load(Ordering::Relaxed) {
            return;
        }
        let patience = if held { HARD_PATIENCE } else { PATIENCE };
        if !self.empty(writer, patience, held) {
            let step = self.soft.load(Ordering::Relaxed) / RETRY_PART;
            self.retry_at.store(bytes + step, Ordering::Relaxed);
        }
    }

    /// The checkpoint thread's part: copies what it can into the file without waiting for anybody.
    pub(super) fn copy(&self, connection: &mut SqliteConnection) -> QueryResult<()> {
        let _running = self.lock();
        diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result::<Outcome>(connection).map(drop)
    }

    /// Empties the log where nobody writes. For the checkpoint thread.
    pub(super) fn empty_at_rest(&self, connection: &mut SqliteConnection) {
        self.empty(connection, PATIENCE, true);
    }

    /// Copies the rest, waits for readers and cuts the log to nothing. True if that was possible.
    fn empty(&self, connection: &mut SqliteConnection, patience: Duration, waits: bool) -> bool {
        let _running = if waits {
            self.lock()
        } else {
            match self.running.try_lock() {
                Ok(running) => running,
                Err(_) => return false,
            }
        };
        let emptied = wait_for_locks(connection, patience)
            .and_then(|()| diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").get_result::<Outcome>(connection));
        let restored = wait_for_locks(connection, Duration::from_millis(BUSY_TIMEOUT_MS));
        self.measure();
        match emptied.and_then(|outcome| restored.map(|()| outcome.busy == 0)) {
            Ok(emptied) => emptied,
            Err(error) => {
                tracing::warn!(%error, log = %self.path.display(), "the write-ahead log could not be emptied; trying again later");
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait_for_locks(connection: &mut SqliteConnection, patience: Duration) -> QueryResult<()> {
    connection.batch_execute(&format!("PRAGMA busy_timeout = {}", patience.as_millis()))
}
