//! The write-ahead log stays small whatever readers do, and a file that is gone is noticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;
use tempfile::TempDir;

use super::{Checkpointer, Files};

const MB: u64 = 1024 * 1024;

fn connect(path: &Path) -> SqliteConnection {
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    connection
        .batch_execute("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA busy_timeout = 10000;")
        .unwrap();
    connection
}

/// A database with its checkpoint thread, and one who writes.
struct Installation {
    files: Arc<Files>,
    checkpointer: Checkpointer,
    writer: SqliteConnection,
    path: PathBuf,
    directory: TempDir,
    largest: u64,
}

impl Installation {
    fn new(wal_bytes_max: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data").join("store.db");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(format!("{}.lock", path.display()), "").unwrap();
        let mut writer = connect(&path);
        writer.batch_execute("CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)").unwrap();
        let files = Arc::new(Files::new(&path, wal_bytes_max));
        files.hold(connect(&path)).unwrap();
        let of = path.clone();
        let open = move || Ok(connect(&of));
        let checkpointer =
            Checkpointer::start("checkpoint", Arc::clone(&files), Duration::from_millis(5), open).unwrap();
        Self { files, checkpointer, writer, path, directory, largest: 0 }
    }

    /// About 250 KB, over other rows each time.
    fn commit(&mut self, number: usize) {
        let rows = format!(
            "REPLACE INTO t SELECT value * 7 + {number} % 50, randomblob(4000) FROM \
             (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 60) SELECT value FROM n)"
        );
        self.writer.batch_execute(&rows).unwrap();
        self.checkpointer.written();
        self.files.wal().bound(&mut self.writer);
        self.largest = self.largest.max(self.wal());
    }

    fn wal(&self) -> u64 {
        fs::metadata(format!("{}-wal", self.path.display())).unwrap().len()
    }

    /// Waits until the log has no more bytes than that.
    fn await_wal(&self, bytes: u64) {
        while self.wal() > bytes {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Reads all the time: at every moment one of these readers is in the middle of a transaction.
struct Readers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    fn start(path: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (started, count) = (Arc::new(Barrier::new(4)), 3_u64);
        let threads = (0..count).map(|number| {
            let (path, stop, started) = (path.to_owned(), Arc::clone(&stop), Arc::clone(&started));
            std::thread::spawn(move || {
                let mut reader = connect(&path);
                reader.batch_execute("BEGIN; SELECT COUNT(*) FROM t;").unwrap();
                started.wait();
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20 + number * 7));
                    reader.batch_execute("COMMIT; BEGIN; SELECT COUNT(*) FROM t;").unwrap();
                }
                reader.batch_execute("COMMIT").unwrap();
            })
        });
        let threads = threads.collect();
        started.wait();
        Self { stop, threads }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

#[test]
fn the_log_stays_small_and_shrinks_under_readers_that_never_all_rest() {
    let mut installation = Installation::new(2 * MB);
    let readers = Readers::start(&installation.path);
    let mut shrank = 0;
    for number in 0..400 {
        let before = installation.wal();
        installation.commit(number);
        shrank += u32::from(installation.wal() < before);
    }
    readers.stop();
    assert!(installation.largest < 10 * MB, "100 MB were written; the log grew to {} bytes", installation.largest);
    assert!(shrank > 0, "it shrank while it was written to");
}

#[test]
fn a_log_that_a_long_reader_has_held_is_emptied_when_the_reader_ends_though_nobody_writes_any_more() {
    let mut installation = Installation::new(MB);
    let mut reader = connect(&installation.path);
    reader.batch_execute("BEGIN; SELECT COUNT(*) FROM t;").unwrap();
    let mut number = 0;
    while !installation.files.wal().is_held() {
        installation.commit(number);
        number += 1;
    }
    let warning = installation.files.warning().unwrap();
    assert!(warning.contains("a reader that does not end") && warning.contains("store.db"), "{warning}");
    reader.batch_execute("COMMIT").unwrap();
    installation.await_wal(MB);
    while installation.files.warning().is_some() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_small_disk_has_a_small_log() {
    let installation = Installation::new(64 * MB);
    let wal = installation.files.wal();
    let disk = |free_bytes| Some(super::Disk { free_bytes, bytes: 40 * MB });
    let bounds = |free: u64| {
        wal.fit_to(disk(free));
        wal.bounds()
    };
    assert_eq!(bounds(1000 * MB), (64 * MB, 256 * MB));
    let (soft, hard) = bounds(40 * MB);
    assert!(soft <= 11 * MB && hard <= 21 * MB, "{soft} {hard}");
    assert_eq!(bounds(0).0, MB);
}

#[test]
fn a_disk_is_nearly_full_when_little_of_it_is_free() {
    let disk = |free_bytes, bytes| super::Disk { free_bytes, bytes }.is_nearly_full();
    assert!(disk(9, 100) && !disk(10, 100));
    assert!(!disk(6_000_000_000, 100_000_000_000), "enough for days, whatever its share");
    assert!(disk(4_000_000_000, 100_000_000_000));
}

#[test]
fn files_that_are_removed_replaced_or_out_of_reach_are_named_until_they_are_back() {
    let installation = Installation::new(MB);
    let files = &installation.files;
    assert_eq!(files.fault(), None);
    let elsewhere = installation.directory.path().join("elsewhere");
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let path = PathBuf::from(format!("{}{suffix}", installation.path.display()));
        fs::rename(&path, &elsewhere).unwrap();
        let removed = files.fault().unwrap();
        assert!(removed.starts_with(&format!("{} was removed", path.display())), "{removed}");
        fs::copy(&elsewhere, &path).unwrap();
        let replaced = files.fault().unwrap();
        assert!(replaced.contains("was replaced") && replaced.contains("restore store and log"), "{replaced}");
        fs::rename(&elsewhere, &path).unwrap();
        assert_eq!(files.fault(), None, "{suffix} is back");
    }
    let (data, moved) = (installation.path.parent().unwrap(), installation.directory.path().join("moved"));
    fs::rename(data, &moved).unwrap();
    assert!(files.fault().unwrap().contains("was removed"));
    fs::rename(&moved, data).unwrap();
    assert_eq!(files.fault(), None);
}

#[test]
fn closing_leaves_the_log_of_a_database_that_was_put_in_the_place_of_the_open_one() {
    let installation = Installation::new(MB);
    let Installation { files, checkpointer, writer, path, directory: _directory, .. } = installation;
    for suffix in ["", "-wal"] {
        let name = format!("{}{suffix}", path.display());
        fs::remove_file(&name).unwrap();
        fs::write(&name, "another").unwrap();
    }
    checkpointer.stop();
    files.release();
    drop(writer);
    assert_eq!(fs::read_to_string(format!("{}-wal", path.display())).unwrap(), "another");
}
