//! Checkpoints: moving the write-ahead log into the file, in bounded steps on a thread of their own, so that no append
//! waits for it. The log begins anew when all of it has been moved; while appends outrun that, the appender itself moves
//! the short rest once in a while.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use diesel::sqlite::SqliteConnection;

use super::log::{self, PAGE_BYTES, SqlResult};
use super::shared::Shared;

/// A checkpoint after this much was written to the write-ahead log.
const STEP_BYTES: i64 = 8 * 1024 * 1024;
/// The appender helps when this much was written since the log was last moved as a whole.
const HELP_BYTES: i64 = 64 * 1024 * 1024;
/// It helps only while the rest is short, so that the stall is; beyond [`WAL_BYTES_MAX`] it helps in any case.
const HELP_REST_BYTES: i64 = 16 * 1024 * 1024;
/// The log grows no further than this.
const WAL_BYTES_MAX: i64 = 512 * 1024 * 1024;

/// The appender's side.
#[derive(Debug)]
pub(super) struct Wake {
    thread: mpsc::SyncSender<()>,
    since_step: i64,
    since_help: i64,
}

/// The thread's side.
#[derive(Debug)]
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    woken: mpsc::Receiver<()>,
}

impl Checkpointer {
    pub(super) fn new(shared: Arc<Shared>) -> (Self, Wake) {
        let (wake, woken) = mpsc::sync_channel(1);
        (Self { shared, woken }, Wake { thread: wake, since_step: 0, since_help: 0 })
    }

    /// Runs until the appender has ended.
    pub(super) fn run(self) {
        let mut connection = None;
        while self.woken.recv().is_ok() {
            let result = match &mut connection {
                Some(connection) => run(connection, &self.shared),
                None => match log::open_reader(self.shared.path()) {
                    Ok(new) => run(connection.insert(new), &self.shared),
                    Err(error) => {
                        tracing::warn!(%error, "no checkpoint of the log");
                        continue;
                    }
                },
            };
            if let Err(error) = result {
                tracing::warn!(%error, "no checkpoint of the log");
                connection = None;
            }
        }
    }
}

/// One checkpoint.
pub(super) fn run(connection: &mut SqliteConnection, shared: &Shared) -> SqlResult<()> {
    let (pages, moved) = log::checkpoint(connection)?;
    shared.wal_pages_left.store(pages - moved, Ordering::Release);
    Ok(())
}

impl Wake {
    /// Notes how much the write-ahead log has grown, in bytes of whole pages, and wakes the thread when it is enough.
    pub(super) fn written(&mut self, bytes: i64) {
        self.since_step += bytes;
        self.since_help += bytes;
        if self.since_step >= STEP_BYTES {
            self.since_step = 0;
            // Full: it is awake already.
            let _ = self.thread.try_send(());
        }
    }

    /// True if the appender should run a checkpoint itself now.
    pub(super) fn must_help(&mut self, shared: &Shared) -> bool {
        let left = shared.wal_pages_left.load(Ordering::Acquire) * PAGE_BYTES + self.since_step;
        self.since_help >= WAL_BYTES_MAX || (self.since_help >= HELP_BYTES && left <= HELP_REST_BYTES)
    }

    /// Notes that the appender has run a checkpoint. Where a reader kept part of the log from being moved, the appender
    /// tries again after one more step.
    pub(super) fn helped(&mut self, shared: &Shared) {
        self.since_step = 0;
        let all = shared.wal_pages_left.load(Ordering::Acquire) == 0;
        self.since_help = if all { 0 } else { (self.since_help - STEP_BYTES).min(WAL_BYTES_MAX - STEP_BYTES) };
    }
}
