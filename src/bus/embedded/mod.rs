//! The embedded bus: a durable, append-only log in a SQLite file of its own, for one process and no services.
//!
//! One thread appends: it takes every call that waits, writes them as chunks in one transaction with one fsync, then
//! answers them all. Other threads read; another moves the write-ahead log into the file. Nothing here blocks the threads
//! of an async runtime. The file never shrinks: room that retention frees is used again.

mod appender;
mod backup;
mod chunk;
mod compaction;
mod consumer;
mod error;
mod lock;
mod log;
mod reader;
mod retention;
mod shared;
mod slots;
mod tail;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use diesel::ConnectionError;
use diesel::sqlite::SqliteConnection;
use futures_util::future::BoxFuture;

use super::{Bounds, Bus, BusError, Consumer, Fetched, InputTopic, NewRecord, TopicPartition};
use crate::sqlite::{Checkpointer, Files, WAL_BYTES_MAX};
use crate::time::Timestamp;
use appender::{Appender, Job};
use consumer::EmbeddedConsumer;
use log::SqlResult;
use reader::ReaderJob;
use shared::Shared;
use slots::{INPUTS_MAX, Slots};

/// How long the log is kept. Nothing at or above a partition's floor is removed, whatever its age and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionOptions {
    /// Records older than this are removed.
    pub age: Duration,
    /// The oldest records are removed while the log has more stored (compressed) bytes than this.
    pub bytes: u64,
}

impl RetentionOptions {
    /// The limits as they are configured, where 0 means none; `None` if everything is kept for ever.
    #[must_use]
    pub const fn from_limits(hours: u64, bytes: u64) -> Option<Self> {
        if hours == 0 && bytes == 0 {
            return None;
        }
        let age = if hours == 0 { Duration::MAX } else { Duration::from_secs(hours.saturating_mul(3600)) };
        Some(Self { age, bytes: if bytes == 0 { u64::MAX } else { bytes } })
    }
}

/// Two threads read: partitions are spread over them, so that a replay of one does not hold up all others.
const READERS: usize = 2;
/// Format of the file; another one is refused.
const FORMAT: &str = "1";

/// The log in a SQLite file.
#[derive(Debug)]
pub struct EmbeddedBus {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    threads: Vec<JoinHandle<()>>,
    checkpointer: Arc<Checkpointer>,
    // Declared last: released when all threads have ended.
    _lock: File,
}

impl EmbeddedBus {
    /// Opens or creates the log at `path` and keeps everything for ever.
    ///
    /// # Errors
    /// [`BusError::Misconfigured`] if another process uses it, it cannot be written, it is damaged, or it was created with
    /// another number of partitions.
    pub fn open(path: impl AsRef<Path>, partitions: u32) -> Result<Arc<Self>, BusError> {
        Self::open_with(path, partitions, None)
    }

    /// Opens or creates the log at `path`.
    ///
    /// # Errors
    /// As [`EmbeddedBus::open`].
    pub fn open_with(
        path: impl AsRef<Path>,
        partitions: u32,
        retention: Option<RetentionOptions>,
    ) -> Result<Arc<Self>, BusError> {
        Self::open_bounded(path.as_ref(), partitions, retention, WAL_BYTES_MAX)
    }

    /// With another bound for the write-ahead log.
    fn open_bounded(
        path: &Path,
        partitions: u32,
        retention: Option<RetentionOptions>,
        wal_bytes_max: u64,
    ) -> Result<Arc<Self>, BusError> {
        let slots = Slots::new(partitions)?;
        let lock = lock::lock(path)?;
        let mut writer = log::open_writer(path).map_err(|error| opening_error(path, error))?;
        let identity = check_properties(&mut writer, path, partitions)?;
        load_inputs(&mut writer, &slots).map_err(|error| error::bus_error(path, &error))?;
        let ends = log::ends(&mut writer, &slots).map_err(|error| error::bus_error(path, &error))?;
        let total_bytes = log::total_bytes(&mut writer).map_err(|error| error::bus_error(path, &error))?;
        let files = hold(path, wal_bytes_max)?;

        let (reader_senders, reader_receivers): (Vec<_>, Vec<_>) =
            (0..READERS).map(|_| mpsc::channel::<ReaderJob>()).unzip();
        let shared = Arc::new(Shared::new(path.to_owned(), Arc::clone(&files), slots, identity, &ends, reader_senders));
        let checkpointer = Arc::new(start_checkpoints(path, files)?);
        let (jobs, job_receiver) = mpsc::channel();
        let appender =
            Appender::new(Arc::clone(&shared), writer, ends, total_bytes, retention, Arc::clone(&checkpointer));

        let mut threads = vec![spawn("bus-append", path, move || appender.run(&job_receiver))?];
        for receiver in reader_receivers {
            let shared = Arc::clone(&shared);
            threads.push(spawn("bus-read", path, move || reader::run(&shared, &receiver))?);
        }
        Ok(Arc::new(Self { shared, jobs, threads, checkpointer, _lock: lock }))
    }

    fn enqueue(
        &self,
        records: Vec<NewRecord>,
        lane: Option<(String, i64)>,
    ) -> BoxFuture<'static, Result<Vec<i64>, BusError>> {
        let (shared, jobs) = (Arc::clone(&self.shared), self.jobs.clone());
        Box::pin(async move { appender::enqueue(&shared, &jobs, records, lane).await })
    }

    /// Makes the disk "full" at that many pages.
    #[cfg(test)]
    fn limit_pages(&self, pages: u32) {
        self.jobs.send(Job::LimitPages(pages)).unwrap();
    }

    /// Runs retention at once.
    #[cfg(test)]
    fn retain_now(&self) {
        let (done, wait) = mpsc::channel();
        self.jobs.send(Job::RetainNow(done)).unwrap();
        wait.recv().unwrap();
    }
}

impl Drop for EmbeddedBus {
    /// Waits until everything that was accepted is durable.
    fn drop(&mut self) {
        self.checkpointer.stop();
        self.shared.files().release();
        let _ = self.jobs.send(Job::Stop);
        self.shared.stop_readers();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the embedded bus panicked");
            }
        }
    }
}

/// Notes which files the log has open.
fn hold(path: &Path, wal_bytes_max: u64) -> Result<Arc<Files>, BusError> {
    let files = Files::new(path, wal_bytes_max);
    let connection = log::open_reader(path).map_err(|error| opening_error(path, error))?;
    files.hold(connection).map_err(|error| BusError::Unavailable(format!("{}: {error}", path.display())))?;
    Ok(Arc::new(files))
}

fn start_checkpoints(path: &Path, files: Arc<Files>) -> Result<Checkpointer, BusError> {
    let of = path.to_owned();
    let connect = move || log::open_reader(&of).map_err(|error| error.to_string());
    Checkpointer::start("bus-checkpoint", files, Duration::ZERO, connect)
        .map_err(|error| BusError::Unavailable(format!("{}: no thread could be started: {error}", path.display())))
}

fn spawn(name: &str, path: &Path, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BusError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| BusError::Unavailable(format!("{}: no thread could be started: {error}", path.display())))
}

fn opening_error(path: &Path, error: ConnectionError) -> BusError {
    match error {
        ConnectionError::CouldntSetupConfiguration(error) => error::bus_error(path, &error),
        other => BusError::Misconfigured(format!(
            "{} cannot be opened: {other}; check owner and rights, or name another place in bus.path",
            path.display()
        )),
    }
}

/// Name of the property that holds the name of an input topic.
fn input_property(index: usize) -> String {
    format!("input.{index}")
}

/// The input topics that the log has got so far.
fn load_inputs(writer: &mut SqliteConnection, slots: &Slots) -> SqlResult<()> {
    for index in 0..INPUTS_MAX {
        let Some(topic) = log::stored_property(writer, &input_property(index))?.and_then(|name| InputTopic::of(&name))
        else {
            break;
        };
        slots.inputs_mut().push(topic);
    }
    Ok(())
}

/// Adds an input topic, unless it is there.
fn add_input(shared: &Shared, input: InputTopic) -> Result<(), BusError> {
    let mut inputs = shared.slots().inputs_mut();
    if inputs.contains(&input) {
        return Ok(());
    }
    if inputs.len() == INPUTS_MAX {
        return Err(BusError::Refused(format!(
            "the embedded bus has room for {INPUTS_MAX} plugins in other languages"
        )));
    }
    shared.files_are_there()?;
    let path = shared.path();
    let mut connection = log::open_reader(path).map_err(|error| opening_error(path, error))?;
    log::property(&mut connection, &input_property(inputs.len()), input.plugin())
        .map_err(|error| error::bus_error(path, &error))?;
    inputs.push(input);
    Ok(())
}

/// Checks format and partition count and returns the identity, which a new log gets here.
fn check_properties(writer: &mut SqliteConnection, path: &Path, partitions: u32) -> Result<String, BusError> {
    let random = format!("embedded-{:032x}", rand::random::<u128>());
    let mut property =
        |name, value: &str| log::property(writer, name, value).map_err(|error| error::bus_error(path, &error));
    let format = property("format", FORMAT)?;
    if format != FORMAT {
        return Err(BusError::Misconfigured(format!(
            "{} has format {format}, but this version reads format {FORMAT}; use the version that wrote it",
            path.display()
        )));
    }
    let stored = property("partitions", &partitions.to_string())?;
    if stored != partitions.to_string() {
        return Err(BusError::Misconfigured(format!(
            "{} was created with {stored} partitions, but bus.partitions is {partitions}; set bus.partitions to {stored}, \
             or begin with an empty log and an empty store",
            path.display()
        )));
    }
    property("identity", &random)
}

impl Bus for EmbeddedBus {
    fn partitions(&self) -> u32 {
        self.shared.slots().partitions(super::Topic::Events)
    }

    fn identity(&self) -> String {
        self.shared.identity().to_owned()
    }

    fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'static, Result<Vec<i64>, BusError>> {
        self.enqueue(records, None)
    }

    fn append_lane(
        &self,
        lane: String,
        position: i64,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'static, Result<(), BusError>> {
        let appended = self.enqueue(records, Some((lane, position)));
        Box::pin(async move { appended.await.map(|_| ()) })
    }

    fn lane_position(&self, lane: String) -> BoxFuture<'static, Result<Option<i64>, BusError>> {
        let jobs = self.jobs.clone();
        Box::pin(async move { appender::lane_position(&jobs, lane).await })
    }

    fn read(
        &self,
        from: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> BoxFuture<'static, Result<Fetched, BusError>> {
        self.shared.read(from, offset, bytes_max)
    }

    fn offset_at(&self, of: TopicPartition, time: Timestamp) -> BoxFuture<'static, Result<i64, BusError>> {
        match self.shared.slots().of(of) {
            Ok(slot) => {
                let index = self.shared.slots().index(slot);
                self.shared.on_reader(index, move |reader| reader.offset_at(slot, time))
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn bounds(&self, of: TopicPartition) -> BoxFuture<'static, Result<Bounds, BusError>> {
        let bounds = self.shared.slots().of(of).map(|slot| self.shared.bounds(slot));
        Box::pin(std::future::ready(bounds))
    }

    fn set_floor(&self, of: TopicPartition, offset: i64) {
        if let Ok(slot) = self.shared.slots().of(of) {
            self.shared.set_floor(slot, offset);
        }
    }

    fn create_input(&self, input: InputTopic) -> BoxFuture<'static, Result<(), BusError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if shared.slots().inputs().contains(&input) {
                return Ok(());
            }
            let adding = tokio::task::spawn_blocking(move || add_input(&shared, input)).await;
            adding.map_err(|error| BusError::Unavailable(error.to_string()))?
        })
    }

    fn files(&self) -> Option<&Files> {
        Some(self.shared.files())
    }

    /// One process owns all partitions.
    fn sources_are_local(&self) -> bool {
        true
    }

    /// Joins as the only member: an older consumer of this bus is fenced.
    fn consumer(&self) -> Result<Box<dyn Consumer>, BusError> {
        Ok(Box::new(EmbeddedConsumer::new(Arc::clone(&self.shared))))
    }
}
