//! Copies SQLite's write-ahead log into the database, from a thread of its own.
//!
//! Passive checkpoints run beside the writer and hold nothing up. Under a writer that never pauses they never reach the
//! end of the log, so once the log has grown large the writer itself copies the little that is left; then it starts the
//! log from the beginning again.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::Integer;

use super::connection::{Database, Purpose, Target};
use super::model::StoreError;
use super::threads::{Connector, Durability, QueueSender};

/// Shortest time between two checkpoints. Pages that change all the time are copied once in that time, and the syncs of a
/// checkpoint, which hold up those of the bus, are as rare.
const PAUSE: Duration = Duration::from_millis(500);
/// Pages of 16 KiB in the log from which on the writer takes part: 64 MiB.
const LOG_PAGES_MAX: i32 = 4096;

/// The thread and the bell that wakes it.
pub(super) struct Checkpointer {
    bell: Mutex<Option<SyncSender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, QueryableByName)]
struct Progress {
    #[diesel(sql_type = Integer)]
    log: i32,
    #[diesel(sql_type = Integer)]
    checkpointed: i32,
}

impl Checkpointer {
    pub(super) fn start(target: Target, writes: QueueSender) -> Result<Self, StoreError> {
        let (bell, wake) = sync_channel(1);
        let mut connector = Connector::new(target, Purpose::Checkpoint);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || watch(&wake, &mut connector, &writes))
            .map_err(|error| StoreError::Unavailable(format!("a thread could not be started: {error}")))?;
        Ok(Self { bell: Mutex::new(Some(bell)), thread: Mutex::new(Some(thread)) })
    }

    /// Something was written.
    pub(super) fn written(&self) {
        if let Some(bell) = &*self.bell.lock().unwrap_or_else(PoisonError::into_inner)
            && let Err(TrySendError::Disconnected(())) = bell.try_send(())
        {
            tracing::error!("the checkpoint thread has ended; the write-ahead log grows");
        }
    }

    pub(super) fn stop(&self) {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

fn watch(wake: &Receiver<()>, connector: &mut Connector, writes: &QueueSender) {
    while wake.recv().is_ok() {
        std::thread::sleep(PAUSE);
        match connector.run(passive) {
            Ok(progress) if progress.log > LOG_PAGES_MAX && progress.checkpointed < progress.log => {
                writes.send(Durability::Repeatable, |database| passive(database).map(drop));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the write-ahead log could not be checkpointed; trying again later"),
        }
    }
}

fn passive(database: &mut Database) -> Result<Progress, StoreError> {
    let Database::Sqlite(db) = database else {
        return Ok(Progress { log: 0, checkpointed: 0 });
    };
    Ok(diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(db)?)
}
