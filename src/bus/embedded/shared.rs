//! What the threads of the embedded bus and its callers share: where each partition begins and ends, its floor, the news
//! of appends, and the way to the reader threads.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, oneshot, watch};

use super::log::Ends;
use super::reader::{Reader, ReaderJob};
use super::slots::{Slot, Slots};
use super::tail::Tail;
use crate::bus::{Bounds, BusError, Fetched, Record, TopicPartition};
use crate::sqlite::Files;

/// Records that wait to be appended may take this many KB together; further callers wait.
pub(super) const WAITING_KB_MAX: u32 = 64 * 1024;

#[derive(Debug, Default)]
struct Mark {
    low: AtomicI64,
    high: AtomicI64,
    /// 0, where nothing can be removed, until one is set.
    floor: AtomicI64,
    tail: Tail,
}

/// Shared by all threads of one embedded bus.
#[derive(Debug)]
pub(super) struct Shared {
    path: PathBuf,
    files: Arc<Files>,
    slots: Slots,
    identity: String,
    marks: Vec<Mark>,
    news: watch::Sender<u64>,
    room: Arc<Semaphore>,
    readers: Vec<mpsc::Sender<ReaderJob>>,
    generation: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        path: PathBuf,
        files: Arc<Files>,
        slots: Slots,
        identity: String,
        ends: &[Ends],
        readers: Vec<mpsc::Sender<ReaderJob>>,
    ) -> Self {
        let shared = Self {
            path,
            files,
            slots,
            identity,
            marks: ends.iter().map(|_| Mark::default()).collect(),
            news: watch::Sender::new(0),
            room: Arc::new(Semaphore::new(WAITING_KB_MAX as usize)),
            readers,
            generation: AtomicU64::new(0),
        };
        for slot in shared.slots.all() {
            let end = &ends[shared.slots.index(slot)];
            shared.mark(slot).low.store(end.low, Ordering::Release);
            shared.mark(slot).high.store(end.high, Ordering::Release);
        }
        shared
    }

    fn mark(&self, slot: Slot) -> &Mark {
        &self.marks[self.slots.index(slot)]
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The files of the log.
    pub(super) const fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Refuses if what is written or opened now is not the log that was opened first: it was removed or replaced.
    pub(super) fn files_are_there(&self) -> Result<(), BusError> {
        self.files.fault().map_or(Ok(()), |fault| Err(BusError::Unavailable(fault)))
    }

    pub(super) const fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Room for records that wait to be appended, in KB.
    pub(super) fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.room)
    }

    pub(super) fn bounds(&self, slot: Slot) -> Bounds {
        let mark = self.mark(slot);
        Bounds { low: mark.low.load(Ordering::Acquire), high: mark.high.load(Ordering::Acquire) }
    }

    pub(super) fn set_low(&self, slot: Slot, low: i64) {
        self.mark(slot).low.store(low, Ordering::Release);
    }

    pub(super) fn set_high(&self, slot: Slot, high: i64) {
        self.mark(slot).high.store(high, Ordering::Release);
    }

    /// Keeps records that are durable, and are made known next, for those who wait for them.
    pub(super) fn keep_tail(&self, slot: Slot, records: Vec<Record>) {
        self.mark(slot).tail.push(records);
    }

    /// What was appended last, if that is what is asked for.
    pub(super) fn read_tail(&self, slot: Slot, offset: i64, bytes_max: usize) -> Option<Fetched> {
        let mark = self.mark(slot);
        mark.tail.read(offset, mark.high.load(Ordering::Acquire), bytes_max)
    }

    pub(super) fn floor(&self, slot: Slot) -> i64 {
        self.mark(slot).floor.load(Ordering::Acquire)
    }

    pub(super) fn set_floor(&self, slot: Slot, offset: i64) {
        self.mark(slot).floor.store(offset, Ordering::Release);
    }

    /// Tells consumers that something was appended. Called after the new ends are set.
    pub(super) fn announce(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Makes the caller the current consumer and fences all older ones.
    pub(super) fn next_generation(&self) -> u64 {
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.announce();
        generation
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Has the reader thread that serves this index run a job, whether or not somebody waits for it.
    pub(super) fn post(&self, index: usize, job: impl FnOnce(&mut Reader) + Send + 'static) -> Result<(), BusError> {
        self.readers[index % self.readers.len()].send(Some(Box::new(job))).map_err(|_| closed())
    }

    /// Runs `work` on the reader thread that serves this index.
    pub(super) fn on_reader<T: Send + 'static>(
        &self,
        index: usize,
        work: impl FnOnce(&mut Reader) -> Result<T, BusError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, BusError>> {
        let (done, result) = oneshot::channel();
        let posted = self.post(index, move |reader| {
            // Nobody waits for it any more if the future was dropped.
            if !done.is_closed() {
                let _ = done.send(work(reader));
            }
        });
        Box::pin(async move {
            posted?;
            result.await.map_err(|_| closed())?
        })
    }

    /// Reads a partition, see [`Bus::read`](crate::bus::Bus::read).
    pub(super) fn read(
        &self,
        from: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> BoxFuture<'static, Result<Fetched, BusError>> {
        match self.slots.of(from) {
            Ok(slot) => {
                if let Some(fetched) = self.read_tail(slot, offset, bytes_max) {
                    return Box::pin(std::future::ready(Ok(fetched)));
                }
                let index = self.slots.index(slot);
                self.on_reader(index, move |reader| reader.read(slot, offset, bytes_max))
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    pub(super) fn stop_readers(&self) {
        for reader in &self.readers {
            let _ = reader.send(None);
        }
    }
}

/// The bus was closed while somebody still used it.
pub(super) fn closed() -> BusError {
    BusError::Unavailable("the embedded bus is closed".to_owned())
}
