//! A reader thread: its own connection, one request after the other.

use std::sync::{Arc, mpsc};

use diesel::sqlite::SqliteConnection;

use super::error::{bus_error, damaged};
use super::log::{self, StoredChunk};
use super::shared::Shared;
use super::slots::Slot;
use super::{chunk, opening_error};
use crate::bus::{BusError, Fetched, Record};
use crate::time::Timestamp;

/// Work for a reader thread; `None` ends it.
pub(super) type ReaderJob = Option<Box<dyn FnOnce(&mut Reader) + Send>>;

/// Serves requests until told to stop.
pub(super) fn run(shared: &Arc<Shared>, jobs: &mpsc::Receiver<ReaderJob>) {
    let mut reader = Reader { shared: Arc::clone(shared), connection: None };
    while let Ok(Some(job)) = jobs.recv() {
        job(&mut reader);
    }
}

/// What a reader thread works with.
pub(super) struct Reader {
    shared: Arc<Shared>,
    connection: Option<SqliteConnection>,
}

enum ReadError {
    Sql(diesel::result::Error),
    Bus(BusError),
}

impl From<diesel::result::Error> for ReadError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Sql(error)
    }
}

impl Reader {
    fn query<T>(&mut self, query: impl FnOnce(&mut SqliteConnection) -> Result<T, ReadError>) -> Result<T, BusError> {
        let path = self.shared.path();
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            self.shared.files_are_there()?;
            log::open_reader(path).map_err(|error| opening_error(path, error))?
        };
        match query(&mut connection) {
            Ok(result) => {
                self.connection = Some(connection);
                Ok(result)
            }
            // The next request gets a new connection.
            Err(ReadError::Sql(error)) => Err(bus_error(path, &error)),
            Err(ReadError::Bus(error)) => {
                self.connection = Some(connection);
                Err(error)
            }
        }
    }

    pub(super) fn read(&mut self, slot: Slot, offset: i64, bytes_max: usize) -> Result<Fetched, BusError> {
        let shared = Arc::clone(&self.shared);
        let partition = shared.slots().partition(slot);
        let bounds = shared.bounds(slot);
        let gone = |low| ReadError::Bus(BusError::Gone { partition, offset, low });
        bounds.require(partition, offset)?;
        let mut fetched = Fetched { next_offset: offset, at_end: true, records: Vec::new() };
        if offset == bounds.high {
            return Ok(fetched);
        }
        self.query(|connection| {
            if offset < bounds.low {
                return Err(gone(bounds.low));
            }
            let mut bytes = 0;
            log::visit(connection, slot, offset, |chunk| {
                let (first_offset, next_offset, ..) = chunk;
                // Retention removed it just now, or somebody removed a row by hand.
                if first_offset > fetched.next_offset && !partition.topic.is_compacted() {
                    return Err(gone(first_offset));
                }
                bytes += decode(&shared, slot, chunk, offset, &mut fetched.records).map_err(ReadError::Bus)?;
                fetched.next_offset = next_offset;
                // What was appended just now may be in the file before its end is made known: whoever read beyond the known
                // end would ask for an offset that does not exist yet.
                Ok(bytes < bytes_max && next_offset < bounds.high)
            })
        })?;
        fetched.at_end = fetched.next_offset >= shared.bounds(slot).high;
        Ok(fetched)
    }

    pub(super) fn offset_at(&mut self, slot: Slot, time: Timestamp) -> Result<i64, BusError> {
        let shared = Arc::clone(&self.shared);
        let end = shared.bounds(slot).high;
        let found = self.query(|connection| Ok(log::chunk_at(connection, slot, time.as_millis())?))?;
        let Some(chunk) = found else { return Ok(end) };
        let mut records = Vec::new();
        decode(&shared, slot, chunk, i64::MIN, &mut records)?;
        let first = records.iter().find(|record| record.timestamp >= time);
        Ok(first.map_or(end, |record| record.offset))
    }
}

fn decode(
    shared: &Shared,
    slot: Slot,
    (first_offset, _, first_time, data): StoredChunk,
    from: i64,
    out: &mut Vec<Record>,
) -> Result<usize, BusError> {
    chunk::read(first_offset, first_time, data, from, out).map_err(|error| {
        let partition = shared.slots().partition(slot);
        let place = format!("{partition} at offset {first_offset}: {error}");
        let why = damaged(&shared.path().display().to_string(), &place);
        BusError::Unreadable { partition, offset: first_offset, why }
    })
}
