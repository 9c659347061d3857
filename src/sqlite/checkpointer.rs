//! Copies the write-ahead log into the file, on a thread of its own, so that no transaction waits for it; and looks after
//! the files once a second.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use diesel::sqlite::SqliteConnection;

use super::files::Files;

/// How often the files are looked after while nothing is written.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The thread and the bell that wakes it.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    bell: Mutex<Option<SyncSender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpointer {
    /// Starts the thread. It makes a checkpoint `pause` after the bell rang.
    pub(crate) fn start(
        name: &str,
        files: Arc<Files>,
        pause: Duration,
        connect: impl FnMut() -> Result<SqliteConnection, String> + Send + 'static,
    ) -> io::Result<Self> {
        let (bell, wake) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || Upkeep { files, connect, connection: None }.run(&wake, pause))?;
        Ok(Self { bell: Mutex::new(Some(bell)), thread: Mutex::new(Some(thread)) })
    }

    /// Rings the bell: something was written.
    pub(crate) fn written(&self) {
        if let Some(bell) = &*self.bell.lock().unwrap_or_else(PoisonError::into_inner)
            && let Err(TrySendError::Disconnected(())) = bell.try_send(())
        {
            tracing::error!("the checkpoint thread has ended; only the writer bounds the write-ahead log now");
        }
    }

    /// Ends the thread and waits for it.
    pub(crate) fn stop(&self) {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

struct Upkeep<C> {
    files: Arc<Files>,
    connect: C,
    connection: Option<SqliteConnection>,
}

impl<C: FnMut() -> Result<SqliteConnection, String>> Upkeep<C> {
    fn run(mut self, wake: &Receiver<()>, pause: Duration) {
        loop {
            let rang = match wake.recv_timeout(WATCH_INTERVAL) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if rang {
                std::thread::sleep(pause);
            }
            self.files.watch();
            // A writer that works empties a large log itself; one that rests leaves it to this thread.
            let at_rest = !rang && self.files.wal().is_large();
            if (rang || at_rest)
                && let Err(error) = self.checkpoint(at_rest)
            {
                tracing::warn!(%error, "the write-ahead log could not be checkpointed; trying again later");
                self.connection = None;
            }
        }
    }

    fn checkpoint(&mut self, at_rest: bool) -> Result<(), String> {
        if let Some(fault) = self.files.fault() {
            return if self.connection.is_some() { Ok(()) } else { Err(fault) };
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            closed => closed.insert((self.connect)()?),
        };
        if at_rest {
            self.files.wal().empty_at_rest(connection);
            return Ok(());
        }
        self.files.wal().copy(connection).map_err(|error| error.to_string())
    }
}
