//! The appender: the one thread that writes. Group append: every call that waits goes into one transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

#[cfg(test)]
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::chunk::ChunkWriter;
use super::error::bus_error;
use super::log::{self, Ends, PAGE_BYTES, SqlResult};
use super::shared::{Shared, WAITING_KB_MAX, closed};
use super::slots::Slot;
use super::{RetentionOptions, opening_error, retention};
use crate::bus::{BusError, NewRecord, Record};
use crate::sqlite::Checkpointer;
use crate::time::Timestamp;

/// Largest value, key or header of a record: far beyond any event, below what SQLite can hold.
const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A transaction takes no more calls once it has this many bytes, so that the calls behind it do not wait long.
const TRANSACTION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A checkpoint after about so many bytes were written to the write-ahead log.
const CHECKPOINT_BYTES: i64 = 8 * 1024 * 1024;
/// How often retention looks for something to remove.
const RETENTION_INTERVAL: Duration = Duration::from_secs(15);

/// Work for the appender.
#[derive(Debug)]
pub(super) enum Job {
    Append(Append),
    /// Answered when everything before it has been decided.
    LanePosition(String, oneshot::Sender<Result<Option<i64>, BusError>>),
    Stop,
    #[cfg(test)]
    LimitPages(u32),
    #[cfg(test)]
    RetainNow(mpsc::Sender<()>),
}

/// One call that waits for its records to be durable.
#[derive(Debug)]
pub(super) struct Append {
    records: Vec<(Slot, NewRecord)>,
    bytes: usize,
    lane: Option<(String, i64)>,
    done: oneshot::Sender<Result<Vec<i64>, BusError>>,
    /// Room that the records take up until they are written.
    _room: OwnedSemaphorePermit,
}

/// Hands records to the appender and waits for the answer. With a lane it must not have got that far already.
pub(super) async fn enqueue(
    shared: &Shared,
    jobs: &mpsc::Sender<Job>,
    records: Vec<NewRecord>,
    lane: Option<(String, i64)>,
) -> Result<Vec<i64>, BusError> {
    if records.is_empty() && lane.is_none() {
        return Ok(Vec::new());
    }
    let mut bytes = 0;
    let records = records
        .into_iter()
        .map(|record| {
            let slot = shared.slots().of_record(&record)?;
            bytes += size(&record)?;
            Ok((slot, record))
        })
        .collect::<Result<Vec<_>, BusError>>()?;
    let room_kb = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(WAITING_KB_MAX);
    let room = shared.room().acquire_many_owned(room_kb).await.map_err(|_| closed())?;
    let (done, result) = oneshot::channel();
    jobs.send(Job::Append(Append { records, bytes, lane, done, _room: room })).map_err(|_| closed())?;
    result.await.map_err(|_| closed())?
}

/// Asks for the position of a lane, behind everything that was enqueued before.
pub(super) async fn lane_position(jobs: &mpsc::Sender<Job>, lane: String) -> Result<Option<i64>, BusError> {
    let (done, result) = oneshot::channel();
    jobs.send(Job::LanePosition(lane, done)).map_err(|_| closed())?;
    result.await.map_err(|_| closed())?
}

/// Bytes of a record.
fn size(record: &NewRecord) -> Result<usize, BusError> {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bytes = record.value.len() + record.key.as_ref().map_or(0, bytes::Bytes::len) + headers;
    if bytes > RECORD_BYTES_MAX {
        let topic = record.topic.name();
        let message =
            format!("a record for {topic} has {bytes} bytes, more than the {RECORD_BYTES_MAX} that the log takes");
        return Err(BusError::Refused(message));
    }
    Ok(bytes)
}

/// A partition while a transaction appends to it.
struct OpenPartition {
    ends: Ends,
    writer: Option<ChunkWriter>,
}

/// What a transaction did, to be made known once it is durable.
#[derive(Default)]
struct Written {
    offsets: Vec<Vec<i64>>,
    ends: Vec<(Slot, Ends)>,
    lanes: HashMap<String, i64>,
    stored_bytes: i64,
    /// About how much the write-ahead log grew.
    wal_bytes: i64,
}

impl Written {
    /// Counts a chunk that was stored. The write-ahead log takes whole pages: the chunk's, and those of table and index
    /// that lead to it. Where little is appended at a time they are most of what is written.
    fn count(&mut self, bytes: i64) {
        self.stored_bytes += bytes;
        self.wal_bytes += (bytes / PAGE_BYTES + 3) * PAGE_BYTES;
    }
}

/// The state of the appender thread.
pub(super) struct Appender {
    shared: Arc<Shared>,
    /// `None` after an error, until the file has been opened again.
    connection: Option<SqliteConnection>,
    ends: Vec<Ends>,
    lanes: HashMap<String, i64>,
    total_bytes: i64,
    retention: Option<RetentionOptions>,
    retention_due: Instant,
    checkpointer: Arc<Checkpointer>,
    /// Bytes written to the write-ahead log since the last one.
    since_checkpoint: i64,
    #[cfg(test)]
    pages_max: Option<u32>,
}

impl Appender {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: SqliteConnection,
        ends: Vec<Ends>,
        total_bytes: i64,
        retention: Option<RetentionOptions>,
        checkpointer: Arc<Checkpointer>,
    ) -> Self {
        Self {
            shared,
            connection: Some(connection),
            ends,
            lanes: HashMap::new(),
            total_bytes,
            retention,
            retention_due: Instant::now() + RETENTION_INTERVAL,
            checkpointer,
            since_checkpoint: 0,
            #[cfg(test)]
            pages_max: None,
        }
    }

    /// Serves calls until told to stop, then writes what still waits.
    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        let mut stopping = false;
        while !stopping {
            let patience = self.retention_due.saturating_duration_since(Instant::now());
            let mut next = match jobs.recv_timeout(patience) {
                Ok(job) => Some(job),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            let (mut group, mut bytes) = (Vec::new(), 0);
            while let Some(job) = next {
                match job {
                    Job::Append(append) => {
                        bytes += append.bytes;
                        group.push(append);
                    }
                    Job::LanePosition(lane, done) => {
                        self.write(std::mem::take(&mut group));
                        bytes = 0;
                        let position = self.with_connection(|_, connection| log::lane(connection, &lane));
                        let _ = done.send(position);
                    }
                    Job::Stop => stopping = true,
                    #[cfg(test)]
                    Job::LimitPages(pages) => self.limit_pages(pages),
                    #[cfg(test)]
                    Job::RetainNow(done) => {
                        self.write(std::mem::take(&mut group));
                        while self.retain() {}
                        done.send(()).unwrap();
                    }
                }
                next = if bytes < TRANSACTION_BYTES_MAX { jobs.try_recv().ok() } else { None };
            }
            self.write(group);
            if Instant::now() >= self.retention_due {
                // As long as there is something to remove, go on soon; appends have their turn between two steps.
                let pause = if self.retain() { Duration::from_millis(20) } else { RETENTION_INTERVAL };
                self.retention_due = Instant::now() + pause;
            }
        }
    }

    fn write(&mut self, mut group: Vec<Append>) {
        if group.is_empty() {
            return;
        }
        match self.append_where_it_stays(&group) {
            Ok(written) => {
                let news = written.ends.iter().any(|(slot, _)| slot.is_consumed());
                self.keep_tails(&mut group, &written);
                for (slot, ends) in written.ends {
                    self.ends[self.shared.slots().index(slot)] = ends;
                    self.shared.set_high(slot, ends.high);
                }
                self.lanes.extend(written.lanes);
                self.total_bytes += written.stored_bytes;
                if news {
                    self.shared.announce();
                }
                for (append, offsets) in group.into_iter().zip(written.offsets) {
                    let _ = append.done.send(Ok(offsets));
                }
                self.bound_wal(written.wal_bytes);
            }
            Err(error) => {
                tracing::warn!(%error, calls = group.len(), "records could not be appended");
                for append in group {
                    let _ = append.done.send(Err(error.clone()));
                }
            }
        }
    }

    /// Keeps what consumers will ask for next.
    fn keep_tails(&self, group: &mut [Append], written: &Written) {
        let mut tails: BTreeMap<Slot, Vec<Record>> = BTreeMap::new();
        for (append, offsets) in group.iter_mut().zip(&written.offsets) {
            for ((slot, record), &offset) in std::mem::take(&mut append.records).into_iter().zip(offsets) {
                if slot.is_consumed() {
                    let NewRecord { key, value, headers, .. } = record;
                    let timestamp = Timestamp::MIN;
                    tails.entry(slot).or_default().push(Record { offset, timestamp, key, value, headers });
                }
            }
        }
        for (slot, ends) in &written.ends {
            if let Some(mut records) = tails.remove(slot) {
                // One transaction has one time.
                for record in &mut records {
                    record.timestamp = Timestamp::from_millis(ends.last_time);
                }
                self.shared.keep_tail(*slot, records);
            }
        }
    }

    /// Appends to the log at its path: looks before, so that nothing is done in vain, and after, so that nothing is promised.
    fn append_where_it_stays(&mut self, group: &[Append]) -> Result<Written, BusError> {
        self.shared.files_are_there()?;
        let written = self.append(group)?;
        self.shared.files_are_there().inspect_err(|_| {
            // Should the file come back, its ends are read anew.
            self.connection = None;
        })?;
        Ok(written)
    }

    fn append(&mut self, group: &[Append]) -> Result<Written, BusError> {
        let (slots, now) = (self.shared.slots().clone(), Timestamp::now().as_millis());
        self.with_connection(|this, connection| {
            log::transaction(connection, |connection| {
                let mut open = BTreeMap::new();
                let mut written = Written::default();
                for append in group {
                    if let Some((lane, position)) = &append.lane {
                        let stored = match written.lanes.get(lane).or_else(|| this.lanes.get(lane)) {
                            Some(stored) => Some(*stored),
                            None => log::lane(connection, lane)?,
                        };
                        if stored.is_some_and(|stored| *position <= stored) {
                            written.offsets.push(Vec::new());
                            continue;
                        }
                        written.lanes.insert(lane.clone(), *position);
                    }
                    let mut offsets = Vec::with_capacity(append.records.len());
                    for (slot, record) in &append.records {
                        let partition = open
                            .entry(*slot)
                            .or_insert_with(|| OpenPartition { ends: this.ends[slots.index(*slot)], writer: None });
                        offsets.push(partition.push(record, now));
                        if let Some(full) = partition.writer.take_if(|writer| writer.is_full()) {
                            written.count(store(connection, *slot, full)?);
                        }
                    }
                    written.offsets.push(offsets);
                }
                for (slot, partition) in open {
                    if let Some(rest) = partition.writer {
                        written.count(store(connection, slot, rest)?);
                    }
                    written.ends.push((slot, partition.ends));
                }
                for (lane, position) in &written.lanes {
                    log::set_lane(connection, lane, *position)?;
                }
                Ok(written)
            })
        })
    }

    /// Removes a little of what is no longer needed. True if there may be more.
    fn retain(&mut self) -> bool {
        let Some(options) = self.retention else { return false };
        let now = Timestamp::now();
        let removed = self.with_connection(|this, connection| {
            log::transaction(connection, |connection| {
                retention::step(connection, &this.shared, options, this.total_bytes, now)
            })
        });
        match removed {
            Ok(step) => {
                self.total_bytes -= step.bytes;
                for (slot, low) in step.lows {
                    self.shared.set_low(slot, low);
                }
                self.bound_wal(step.bytes / 8 + PAGE_BYTES);
                step.more
            }
            Err(error) => {
                tracing::warn!(%error, "nothing could be removed from the log");
                false
            }
        }
    }

    /// Runs SQL. After an error the file is opened again and everything known of it read back, since what was done is
    /// unknown.
    fn with_connection<T>(
        &mut self,
        work: impl FnOnce(&Self, &mut SqliteConnection) -> SqlResult<T>,
    ) -> Result<T, BusError> {
        let shared = Arc::clone(&self.shared);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reopen()?,
        };
        match work(self, &mut connection) {
            Ok(result) => {
                self.connection = Some(connection);
                Ok(result)
            }
            Err(error) => {
                drop(connection);
                Err(bus_error(shared.path(), &error))
            }
        }
    }

    fn reopen(&mut self) -> Result<SqliteConnection, BusError> {
        let shared = Arc::clone(&self.shared);
        let slots = shared.slots();
        let sql_error = |error| bus_error(shared.path(), &error);
        shared.files_are_there()?;
        let mut connection = log::open_writer(shared.path()).map_err(|error| opening_error(shared.path(), error))?;
        #[cfg(test)]
        if let Some(pages) = self.pages_max {
            connection.batch_execute(&format!("PRAGMA max_page_count = {pages}")).map_err(sql_error)?;
        }
        self.ends = log::ends(&mut connection, slots).map_err(sql_error)?;
        self.total_bytes = log::total_bytes(&mut connection).map_err(sql_error)?;
        self.lanes.clear();
        for slot in slots.all() {
            self.shared.set_high(slot, self.ends[slots.index(slot)].high);
        }
        Ok(connection)
    }

    /// Has the write-ahead log copied into the file, and emptied where that goes too slowly.
    fn bound_wal(&mut self, wal_bytes: i64) {
        self.since_checkpoint += wal_bytes;
        if self.since_checkpoint >= CHECKPOINT_BYTES {
            self.since_checkpoint = 0;
            self.checkpointer.written();
        }
        if let Some(writer) = &mut self.connection {
            self.shared.files().wal().bound(writer);
        }
    }

    #[cfg(test)]
    fn limit_pages(&mut self, pages: u32) {
        self.pages_max = Some(pages);
        let sql = format!("PRAGMA max_page_count = {pages}");
        self.with_connection(|_, connection| connection.batch_execute(&sql)).unwrap();
    }
}

impl OpenPartition {
    /// Adds a record and returns its offset.
    fn push(&mut self, record: &NewRecord, now: i64) -> i64 {
        let (offset, time) = (self.ends.high, now.max(self.ends.last_time));
        let writer = self.writer.get_or_insert_with(|| ChunkWriter::new(offset, time));
        writer.push(offset, time, record.key.as_deref(), &record.value, &record.headers);
        self.ends.high = offset + 1;
        self.ends.last_time = time;
        offset
    }
}

fn store(connection: &mut SqliteConnection, slot: Slot, writer: ChunkWriter) -> SqlResult<i64> {
    let chunk = writer.finish();
    log::insert(connection, slot, &chunk)?;
    Ok(i64::try_from(chunk.data.len()).unwrap_or(i64::MAX))
}
