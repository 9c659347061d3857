//! The files of one SQLite database that this process has open: are they still the ones at their paths?
//!
//! Unix lets a file be removed or replaced while a process works on it. The process then writes to a file that nobody will
//! ever open again, and every answer that it gives is a lie. So what was opened is compared with what is there, by device
//! and inode: before and after every transaction, before every new connection, and once a second.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;

use super::disk::Disk;
use super::wal::Wal;

/// What stands beside the database: write-ahead log, its index, and the lock against a second process.
pub(super) const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", ".lock"];

/// A file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|file| Self { device: file.dev(), number: file.ino() })
    }
}

/// The files of one database.
pub struct Files {
    path: PathBuf,
    wal: Wal,
    opened: OnceLock<Vec<(PathBuf, Inode)>>,
    /// A connection that stays open as long as the others: SQLite removes the write-ahead log when the last one closes, and
    /// the next one would make another.
    anchor: Mutex<Option<SqliteConnection>>,
    is_gone: AtomicBool,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Files {
    /// The database at `path`, whose write-ahead log is to stay about as small as `wal_bytes_max`.
    pub(crate) fn new(path: &Path, wal_bytes_max: u64) -> Self {
        let wal = Wal::new(path, wal_bytes_max);
        wal.fit_to(Disk::of(path));
        let (opened, anchor) = (OnceLock::new(), Mutex::new(None));
        Self { path: path.to_owned(), wal, opened, anchor, is_gone: AtomicBool::new(false) }
    }

    /// Notes which files are open. `connection` stays open until [`Files::release`].
    ///
    /// # Errors
    /// If the database cannot be read, or a file is not there.
    pub(crate) fn hold(&self, mut connection: SqliteConnection) -> io::Result<()> {
        // The first read opens the write-ahead log.
        connection.batch_execute("PRAGMA cache_size = -64; SELECT 1 FROM sqlite_schema;").map_err(io::Error::other)?;
        let mut opened = Vec::with_capacity(SUFFIXES.len());
        for suffix in SUFFIXES {
            let mut name = self.path.as_os_str().to_owned();
            name.push(suffix);
            let path = PathBuf::from(name);
            let inode = Inode::at(&path)?;
            opened.push((path, inode));
        }
        let _ = self.opened.set(opened);
        *self.anchor.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        Ok(())
    }

    /// Closes the connection that was held, before the others are closed.
    pub(crate) fn release(&self) {
        let anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if self.fault().is_some() {
            // Closing the last connection removes the write-ahead log by its name, which may be that of another database now.
            std::mem::forget(anchor);
        }
    }

    /// Why what is written here would be lost, and what to do: a file that is open is no longer at its path.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let opened = self.opened.get()?;
        let (path, found) = opened.iter().find_map(|(path, inode)| match Inode::at(path) {
            Ok(found) if found == *inode => None,
            found => Some((path, found)),
        })?;
        let what = match found {
            Ok(_) => "was replaced".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed".to_owned(),
            Err(error) => format!("is out of reach ({error})"),
        };
        Some(format!(
            "{} {what} while it was in use; nothing more is accepted. Put the file back where it was, or stop this process, \
             restore store and log from one backup and start again",
            path.display()
        ))
    }

    /// What a person should look at before it stops the work: a disk that is nearly full, or a log that cannot be emptied.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let name = self.path.file_name().unwrap_or(OsStr::new("the file")).display();
        if let Some(disk) = self.disk().filter(|disk| disk.is_nearly_full()) {
            return Some(format!(
                "the disk of {} is nearly full: {} MB of {} MB are free; make room before nothing more can be written",
                self.path.display(),
                disk.free_bytes / 1_000_000,
                disk.bytes / 1_000_000
            ));
        }
        self.wal.is_held().then(|| {
            format!(
                "the write-ahead log of {name} has {} MB: a reader that does not end keeps it from being emptied, so writing \
                 is slowed down; look for a backup or a sqlite3 that reads {}",
                self.wal.bytes() / 1_000_000,
                self.path.display()
            )
        })
    }

    /// Size of the write-ahead log in bytes.
    #[must_use]
    pub fn wal_bytes(&self) -> u64 {
        self.wal.measure()
    }

    /// Room on the disk; `None` if the system does not say.
    #[must_use]
    pub fn disk(&self) -> Option<Disk> {
        Disk::of(&self.path)
    }

    /// Bounds the write-ahead log.
    pub(crate) const fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Looks after the files: the log has room on the disk, and a file that is gone is logged once.
    pub(super) fn watch(&self) {
        self.wal.measure();
        self.wal.fit_to(self.disk());
        let fault = self.fault();
        let was_gone = self.is_gone.swap(fault.is_some(), Ordering::Relaxed);
        match fault {
            Some(fault) if !was_gone => tracing::error!("{fault}"),
            None if was_gone => tracing::info!(path = %self.path.display(), "the files are where they belong again"),
            _ => {}
        }
    }
}
