//! The store's own threads: one queue of writes, one of reads. Callers await; nobody else touches a connection.
//!
//! SQLite has one writer by nature, so a queue in front of it is both the fairest and the fastest arrangement. Whatever is
//! acknowledged to people is made durable by `synchronous=FULL`; where several such writes wait, one sync serves all
//! (group commit). Shard commits use NORMAL, since the bus can repeat them.
//!
//! On MySQL the threads are the pool: each has a connection, opened when it is first needed, looked at after a pause, and
//! renewed now and then. Work that lost a deadlock, a lock or its connection is done again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::connection::{Database, Purpose, Target};
use super::model::StoreError;
use super::mysql::NoAnswer;
use crate::sqlite::Files;

/// Writes that one sync may serve.
const GROUP_MAX: usize = 64;
/// Tries of work that lost a deadlock or its connection, the first included.
const TRIES_MAX: u32 = 5;
/// Wait before the next of these tries, times the number of tries made.
const TRY_PAUSE: Duration = Duration::from_millis(10);
/// A connection to a server that was idle for so long is looked at before it is used: the server ends it after 15 s (`SESSION`).
const IDLE_MAX: Duration = Duration::from_secs(10);
/// A connection to a server is renewed after this time, so that one that moved to another machine is found.
const AGE_MAX: Duration = Duration::from_mins(10);

/// What must survive a power cut before the caller hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The bus can repeat it: a crash of the process loses nothing, a power cut may lose the last moments.
    Repeatable,
    /// On disk before the answer.
    Durable,
}

/// What a panic during work means.
fn given_up(panic: &(dyn std::any::Any + Send)) -> StoreError {
    if panic.is::<NoAnswer>() {
        return StoreError::Unavailable("the database has stopped answering".to_owned());
    }
    StoreError::Refused("a panic in the store; its text is in the log".to_owned())
}

/// Tells the caller how it went, unless the sync that should have made it durable failed.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Work = Box<dyn FnOnce(&mut Connector) -> Answer + Send>;

enum Message {
    Work(Durability, Work),
    Stop,
}

/// A connection that is opened when needed, and anew after a fault.
pub(super) struct Connector {
    target: Target,
    purpose: Purpose,
    /// Those of SQLite, once they are open.
    files: Option<Arc<Files>>,
    open: Option<Database>,
    opened_at: Instant,
    used_at: Instant,
    synchronous_full: bool,
}

impl Connector {
    pub(super) fn new(target: Target, purpose: Purpose) -> Self {
        let now = Instant::now();
        Self { target, purpose, files: None, open: None, opened_at: now, used_at: now, synchronous_full: true }
    }

    /// Writes only while these files are at their paths, and opens a connection to no others.
    pub(super) fn on(mut self, files: Option<&Arc<Files>>) -> Self {
        self.files = files.cloned();
        self
    }

    /// Refuses if what is written now would be lost with a file that was removed or replaced.
    fn files_are_there(&self) -> Result<(), StoreError> {
        match self.files.as_ref().and_then(|files| files.fault()) {
            Some(fault) => Err(StoreError::Unavailable(fault)),
            None => Ok(()),
        }
    }

    /// Keeps SQLite's write-ahead log small.
    fn bound_wal(&mut self) {
        if let (Some(files), Some(Database::Sqlite(writer))) = (&self.files, &mut self.open) {
            files.wal().bound(writer);
        }
    }

    /// Runs `work`; after a fault of the database the connection is closed, and opened again when next needed.
    pub(super) fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.check();
        if self.purpose == Purpose::Write || self.open.is_none() {
            self.files_are_there()?;
        }
        let database = match &mut self.open {
            Some(database) => database,
            closed => {
                self.synchronous_full = true;
                self.opened_at = Instant::now();
                closed.insert(self.target.connect(self.purpose)?)
            }
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| work(database))).unwrap_or_else(|panic| Err(given_up(&*panic)));
        self.used_at = Instant::now();
        if matches!(outcome, Err(StoreError::Unavailable(_) | StoreError::Refused(_))) {
            self.open = None;
        }
        outcome
    }

    /// Closes a connection to a server that is old, or that the server has closed while nobody used it.
    fn check(&mut self) {
        let Some(database @ Database::Mysql(_)) = &mut self.open else { return };
        let mut lives =
            || catch_unwind(AssertUnwindSafe(|| database.batch_execute("DO 0"))).is_ok_and(|asked| asked.is_ok());
        if self.opened_at.elapsed() > AGE_MAX || (self.used_at.elapsed() > IDLE_MAX && !lives()) {
            self.open = None;
        }
    }

    fn set_synchronous(&mut self, full: bool) {
        if self.synchronous_full == full || !matches!(self.target, Target::Sqlite(_)) {
            return;
        }
        let pragma = if full { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
        if self.run(|database| database.batch_execute(pragma)).is_ok() {
            self.synchronous_full = full;
        }
    }
}

/// A queue of work and the threads that serve it.
pub(super) struct Queue {
    sender: Sender<Message>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Queue {
    /// Starts one thread per connector.
    pub(super) fn start(name: &str, connectors: Vec<Connector>) -> Result<Self, StoreError> {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let mut threads = Vec::new();
        for connector in connectors {
            let receiver = Arc::clone(&receiver);
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || serve(&receiver, connector));
            threads.push(thread.map_err(|error| {
                StoreError::Unavailable(format!("a thread for the store could not be started: {error}"))
            })?);
        }
        Ok(Self { sender, threads: Mutex::new(threads) })
    }

    /// Runs `work` on one of the threads. Work that lost a deadlock or its connection is tried again, so it must be a
    /// transaction or a read.
    pub(super) async fn run<T, W>(&self, durability: Durability, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Fn(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, outcome) = oneshot::channel();
        let work: Work = Box::new(move |connector| {
            let result = run_again(connector, &work);
            Box::new(move |synced: Result<(), StoreError>| {
                // A caller that has gone away no longer wants to know.
                let _ = reply.send(result.and_then(|value| synced.map(|()| value)));
            })
        });
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        self.sender.send(Message::Work(durability, work)).map_err(|_| closed())?;
        outcome.await.map_err(|_| closed())?
    }

    /// Finishes what is queued and ends the threads.
    pub(super) fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for _ in &threads {
            let _ = self.sender.send(Message::Stop);
        }
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// What SQLite says at once, without waiting for a lock, where the write-ahead log was begun anew under a transaction: it has
/// changed nothing and can be done again.
const SQLITE_LOCKED: &str = "database is locked";

/// Runs work until it is done or there is no use in trying. A server that cannot be reached is not waited for here.
fn run_again<T>(
    connector: &mut Connector,
    work: &impl Fn(&mut Database) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut tries = 1;
    loop {
        // With a connection, the fault lies in what was done on it; without one, in opening it.
        let mut reached = false;
        let result = connector.run(|database| {
            reached = true;
            work(database)
        });
        match result {
            Err(StoreError::Unavailable(why))
                if reached
                    && tries < TRIES_MAX
                    && (matches!(connector.target, Target::Mysql(_)) || why.contains(SQLITE_LOCKED)) =>
            {
                std::thread::sleep(TRY_PAUSE * tries);
                tries += 1;
            }
            // A password that was changed while this process runs: people may still correct it on either side.
            Err(StoreError::Misconfigured(why)) if !reached => return Err(StoreError::Unavailable(why)),
            result => return result,
        }
    }
}

fn serve(receiver: &Mutex<Receiver<Message>>, mut connector: Connector) {
    let grouping = connector.purpose == Purpose::Write && matches!(connector.target, Target::Sqlite(_));
    loop {
        let mut stopping = false;
        let mut group = Vec::new();
        {
            let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
            match receiver.recv() {
                Ok(Message::Work(durability, work)) => group.push((durability, work)),
                Ok(Message::Stop) | Err(_) => return,
            }
            while grouping && group.len() < GROUP_MAX {
                match receiver.try_recv() {
                    Ok(Message::Work(durability, work)) => group.push((durability, work)),
                    Ok(Message::Stop) => {
                        stopping = true;
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
        serve_group(&mut connector, group);
        connector.bound_wal();
        if stopping {
            return;
        }
    }
}

/// One durable write syncs by itself; several wait for one sync after the last of them.
fn serve_group(connector: &mut Connector, group: Vec<(Durability, Work)>) {
    let durable = group.iter().filter(|(durability, _)| *durability == Durability::Durable).count();
    let mut waiting = Vec::new();
    for (durability, work) in group {
        let is_durable = durability == Durability::Durable;
        connector.set_synchronous(is_durable && durable == 1);
        let answer = work(connector);
        if is_durable && durable > 1 {
            waiting.push(answer);
        } else {
            answer(connector.files_are_there());
        }
    }
    if !waiting.is_empty() {
        connector.set_synchronous(true);
        let synced = connector
            .run(|database| database.batch_execute("UPDATE meta SET value = value + 1 WHERE name = 'group_commits'"));
        let synced = synced.and_then(|()| connector.files_are_there());
        for answer in waiting {
            answer(synced.clone());
        }
    }
}
