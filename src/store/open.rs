//! Opening and closing the store: the data directory, the lock against a second process, migrations, threads.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::connection::{Database, Purpose, Target, on, queries};
use super::inspect::rights;
use super::migrate::SchemaState;
use super::model::StoreError;
use super::schema::meta;
use super::threads::{Connector, Queue};
use super::{Inner, Store};
use crate::sqlite::{Checkpointer, Files, WAL_BYTES_MAX, private};

/// Shortest time between two checkpoints. Pages that change all the time are copied once in that time, and the syncs of a
/// checkpoint, which hold up those of the bus, are as rare.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(500);

/// How a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bring the tables up to date; otherwise a store that is behind is refused.
    pub migrate: bool,
    /// Connections to MySQL that write at the same time; SQLite has one by nature.
    pub writers: usize,
    /// Connections that read at the same time.
    pub readers: usize,
    /// Above this size in bytes SQLite's write-ahead log is emptied; lower on a small disk.
    pub wal_bytes_max: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { migrate: true, writers: 4, readers: 3, wal_bytes_max: WAL_BYTES_MAX }
    }
}

impl Store {
    /// Opens the store at `sqlite:PATH` or `mysql://user:password@host:port/db` and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if the place cannot be used (the text says why and what to do), and
    /// [`StoreError::Unavailable`] if a MySQL server does not answer.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, StoreOptions::default()).await
    }

    /// As [`Store::open`], as the options say.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(url: &str, options: StoreOptions) -> Result<Self, StoreError> {
        let url = url.to_owned();
        blocking(move || Self::open_blocking(&url, options)).await
    }

    fn open_blocking(url: &str, options: StoreOptions) -> Result<Self, StoreError> {
        let target = Target::parse(url)?;
        let lock = match &target {
            Target::Sqlite(path) => Some(lock_file(path)?),
            Target::Mysql(_) => None,
        };
        let mut migrator = Connector::new(target.clone(), Purpose::Migrate);
        let prepare = |database: &mut Database| {
            if options.migrate {
                return database.migrate().map(drop);
            }
            let state = database.schema_state()?;
            state.refuse_unknown()?;
            state.refuse_pending()
        };
        migrator.run(prepare).map_err(|error| not_a_database(&target, error))?;
        drop(migrator);
        let writers = if matches!(target, Target::Mysql(_)) { options.writers.max(1) } else { 1 };
        let files = match &target {
            Target::Sqlite(path) => Some(hold(path, &target, options.wal_bytes_max)?),
            Target::Mysql(_) => None,
        };
        let connector = |purpose| Connector::new(target.clone(), purpose).on(files.as_ref());
        let writers = (0..writers).map(|_| connector(Purpose::Write)).collect();
        let readers = (0..options.readers.max(1)).map(|_| connector(Purpose::Read)).collect();
        let writes = Queue::start("store-write", writers)?;
        let reads = Queue::start("store-read", readers)?;
        let checkpointer = files.as_ref().map(|files| start_checkpoints(files, &target)).transpose()?;
        let lock = Mutex::new(lock);
        Ok(Self { inner: Arc::new(Inner { writes, reads, checkpointer, files, target, lock }) })
    }

    /// Brings the tables of a store up to date and closes it again. Answers the names of the migrations that were run.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn migrate(url: &str) -> Result<Vec<String>, StoreError> {
        let url = url.to_owned();
        blocking(move || {
            let target = Target::parse(&url)?;
            let _lock = match &target {
                Target::Sqlite(path) => Some(lock_file(path)?),
                Target::Mysql(_) => None,
            };
            let mut connector = Connector::new(target.clone(), Purpose::Migrate);
            connector.run(Database::migrate).map_err(|error| not_a_database(&target, error))
        })
        .await
    }

    /// What a store has of the migrations that this version knows. Changes and creates nothing: a SQLite file that is not
    /// there lacks them all.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn schema_state(url: &str) -> Result<SchemaState, StoreError> {
        let url = url.to_owned();
        blocking(move || {
            let target = Target::parse(&url)?;
            let looked_at = match &target {
                Target::Sqlite(path) if !path.exists() => Target::Sqlite(":memory:".into()),
                other => other.clone(),
            };
            let mut connector = Connector::new(looked_at, Purpose::Read);
            connector.run(Database::schema_state).map_err(|error| not_a_database(&target, error))
        })
        .await
    }

    /// Finishes what is queued, copies the write-ahead log into the database and gives the file free. Every later call
    /// fails with [`StoreError::Unavailable`].
    pub async fn close(&self) {
        let inner = Arc::clone(&self.inner);
        let stopped = tokio::task::spawn_blocking(move || {
            if let Some(checkpointer) = &inner.checkpointer {
                checkpointer.stop();
            }
            inner.reads.stop();
            if let Some(files) = &inner.files {
                files.release();
            }
            // SQLite's last connection to close checkpoints and removes the write-ahead log.
            inner.writes.stop();
            inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        });
        if let Err(error) = stopped.await {
            tracing::warn!(%error, "the store was not closed in good order");
        }
    }

    /// Remembers which bus this store belongs to, and how many partitions it has.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if the store belongs to another bus, the bus had another number of partitions, or the user
    /// may not write.
    pub async fn bind_bus(&self, identity: &str, partitions: u32) -> Result<(), StoreError> {
        let (identity, partitions) = (identity.to_owned(), partitions.to_string());
        let (known_identity, known_partitions) =
            self.write(move |database| on!(database, bind(&identity, &partitions))).await.map_err(rights)?;
        if let Some((known, given)) = known_identity {
            return Err(StoreError::Misconfigured(format!(
                "the store belongs to bus {known}, but this bus is {given}: its offsets mean nothing there. Use the bus \
                 that the store was filled from, or an empty store (store.url)"
            )));
        }
        if let Some((known, given)) = known_partitions {
            return Err(StoreError::Misconfigured(format!(
                "the store was filled from a bus of {known} partitions, but bus.partitions is {given}. Set \
                 bus.partitions = {known}, or use an empty store (store.url)"
            )));
        }
        Ok(())
    }

    /// A text that stays the same for the life of this store and differs from every other's. Numbers that the store
    /// allots, such as those of the outbox, mean something only together with it.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn identity(&self) -> Result<String, StoreError> {
        let random = format!("{:032x}", rand::random::<u128>());
        let known = self.write(move |database| on!(database, remembered("identity", &random))).await?;
        Ok(known)
    }

    /// Returns when everything that was committed before is safe from a power cut as well.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn sync(&self) -> Result<(), StoreError> {
        // SQLite syncs its write-ahead log as a whole, so any durable write will do.
        self.write(|database| database.batch_execute("UPDATE meta SET value = value + 1 WHERE name = 'group_commits'"))
            .await
    }
}

/// Runs what waits for files and servers where that holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Unavailable(error.to_string()))?
}

/// Notes which files the store has open.
fn hold(path: &Path, target: &Target, wal_bytes_max: u64) -> Result<Arc<Files>, StoreError> {
    let files = Files::new(path, wal_bytes_max);
    if let Database::Sqlite(connection) = target.connect(Purpose::Checkpoint)? {
        files.hold(connection).map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
    }
    Ok(Arc::new(files))
}

fn start_checkpoints(files: &Arc<Files>, target: &Target) -> Result<Checkpointer, StoreError> {
    let target = target.clone();
    let connect = move || match target.connect(Purpose::Checkpoint) {
        Ok(Database::Sqlite(connection)) => Ok(connection),
        Ok(Database::Mysql(_)) => Err("a file was expected".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    Checkpointer::start("store-checkpoint", Arc::clone(files), CHECKPOINT_PAUSE, connect)
        .map_err(|error| StoreError::Unavailable(format!("a thread could not be started: {error}")))
}

pub(super) fn not_a_database(target: &Target, error: StoreError) -> StoreError {
    match (target, error) {
        (Target::Sqlite(path), StoreError::Unavailable(text)) => StoreError::Misconfigured(format!(
            "store.url: {} cannot be used as a SQLite database: {text}",
            path.display()
        )),
        (_, error) => error,
    }
}

pub(super) fn lock_file(path: &Path) -> Result<File, StoreError> {
    let refuse = |what: String| StoreError::Misconfigured(format!("store.url: {what}"));
    if path.as_os_str().is_empty() || path.is_dir() {
        return Err(refuse(format!("{:?} is not the path of a file; write sqlite:PATH", path.display())));
    }
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        private::create_directory(directory).map_err(|error| {
            refuse(format!("the directory {} cannot be created: {error}. Choose another one", directory.display()))
        })?;
    }
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let not_writable = |path: &Path, error: &std::io::Error| {
        refuse(format!("{} is not writable: {error}. Allow writing there, or choose another place", path.display()))
    };
    let lock = private::open(&lock_path).map_err(|error| not_writable(&lock_path, &error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(refuse(format!(
                "another Tillstream process uses {} ({} is locked). Stop it, or choose another store",
                path.display(),
                lock_path.display()
            )));
        }
        Err(TryLockError::Error(error)) => {
            return Err(refuse(format!("{} cannot be locked: {error}", lock_path.display())));
        }
    }
    private::open(path).map_err(|error| not_writable(path, &error))?;
    private::tighten(path);
    Ok(lock)
}

/// What is known and what was given, where the two differ.
type Mismatch = Option<(String, String)>;

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn bind(
        db: &mut Db,
        identity: &str,
        partitions: &str,
    ) -> Result<(Mismatch, Mismatch), StoreError> {
        db.transaction(|db| Ok((remember(db, "bus_identity", identity)?, remember(db, "bus_partitions", partitions)?)))
    }

    pub(in crate::store) fn remembered(db: &mut Db, name: &str, value: &str) -> Result<String, StoreError> {
        db.transaction(|db| {
            let known = remember(db, name, value)?;
            Ok(known.map_or_else(|| value.to_owned(), |(known, _)| known))
        })
    }

    fn remember(db: &mut Db, name: &str, value: &str) -> QueryResult<Mismatch> {
        // Of several processes that start at once one writes; the others read what it wrote.
        diesel::insert_or_ignore_into(meta::table).values((meta::name.eq(name), meta::value.eq(value))).execute(db)?;
        let known: String = meta::table.find(name).select(meta::value).first(db)?;
        Ok(if known == value { None } else { Some((known, value.to_owned())) })
    }
}
