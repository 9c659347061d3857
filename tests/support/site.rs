//! One installation in a directory of its own: the bus file, the store file, and the binary run on them.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::database::Database;
use super::results;

/// Far longer than catching up takes.
const PATIENCE: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_millis(10);

/// The binary under test: the one that Cargo has just built, unless another one is asked for.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TILLSTREAM_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_tillstream").into(), PathBuf::from)
}

/// True if tests are to run at their full size.
pub(crate) fn at_full_size() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("TILLSTREAM_FULL").is_some_and(|value| value == "1")
}

/// What the rig is asked for. The same stream gives the same messages, whatever they are sent to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    pub(crate) seed: u64,
    pub(crate) events: u32,
    pub(crate) terminals_per_store: u32,
}

impl Stream {
    /// Four stores with everything that goes wrong in a shop.
    pub(crate) fn rig(self, to: &str) -> Command {
        let mut command = Command::new(binary());
        command.args(["rig", "--stores", "4", "--terminals", &self.terminals_per_store.to_string()]);
        command.args(["--duplicates", "0.05", "--corrupt", "0.01", "--out-of-order", "0.02", "--late", "0.002"]);
        command.args(["--anomalies", "0.02", "--to", to]);
        command.args(["--seed", &self.seed.to_string(), "--events", &self.events.to_string()]);
        command
    }

    /// The messages as they reach the bus, corrupt ones included.
    pub(crate) fn messages(self) -> Vec<Vec<u8>> {
        let output = self.rig("stdout").stderr(Stdio::inherit()).output().expect("the rig starts");
        assert!(output.status.success(), "the rig ends with {}", output.status);
        let text = output.stdout.strip_suffix(b"\n").expect("the last line ends");
        text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }
}

/// The directory that one installation lives in, and its store.
pub(crate) struct Site {
    directory: TempDir,
    store: Database,
}

impl Site {
    fn empty() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let store = Database::Sqlite(directory.path().join("store.db"));
        Self { directory, store }
    }

    /// An installation whose bus holds this stream and whose store is an empty SQLite file.
    pub(crate) fn filled(stream: Stream) -> Self {
        let site = Self::empty();
        let mut rig = stream.rig("bus");
        let status = site.at_home(&mut rig).status().expect("the rig starts");
        assert!(status.success(), "the rig ends with {status}");
        site
    }

    /// The same with this empty database as its store.
    pub(crate) fn with_store(mut self, store: Database) -> Self {
        self.store = store;
        self
    }

    /// Another installation with a copy of the same bus file.
    pub(crate) fn with_same_bus(&self) -> Self {
        let copy = Self::empty();
        for file in ["bus.db", "bus.db-wal"] {
            if self.path(file).exists() {
                fs::copy(self.path(file), copy.path(file)).expect("the bus file can be copied");
            }
        }
        copy
    }

    /// Processes for a while as [`Site::catch_up_until_killed`] does, and makes a backup of both files before the kill.
    pub(crate) fn back_up_at_work(&self, records: i64) -> Self {
        let copy = Self::empty();
        let mut command = self.serve(2);
        command.env("TILLSTREAM__PROCESSOR__BATCHEVENTSMAX", "200");
        let mut processor = Running::start(command.stdout(Stdio::null()));
        while self.progress() < records {
            assert!(!processor.has_ended(), "it caught up before there was anything to copy");
            std::thread::yield_now();
        }
        let mut backup = Command::new(binary());
        let backup = self.at_home(&mut backup).arg("backup").arg(copy.directory.path());
        assert!(backup.stdout(Stdio::null()).status().expect("it starts").success());
        assert!(!processor.has_ended(), "it caught up before the backup was made");
        copy
    }

    /// Puts a backup's store in the place of this one's.
    pub(crate) fn put_back_store_of(&self, backup: &Self) {
        for left in ["store.db-wal", "store.db-shm"] {
            // Only a process that was killed leaves them.
            let _ = fs::remove_file(self.path(left));
        }
        fs::copy(backup.path("store.db"), self.path("store.db")).expect("the store can be put back");
    }

    /// The store, past the program.
    pub(crate) const fn store(&self) -> &Database {
        &self.store
    }

    /// A file of this installation.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn at_home<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().to_ascii_uppercase().starts_with("TILLSTREAM__") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.directory.path())
            .env("TILLSTREAM__BUS__PATH", self.path("bus.db"))
            .env("TILLSTREAM__STORE__URL", self.store.url())
            .env("TILLSTREAM__HTTP__BIND", "127.0.0.1:0")
    }

    fn serve(&self, shards: u32) -> Command {
        let mut command = Command::new(binary());
        command.args(["serve", "--until-caught-up"]);
        self.at_home(&mut command).env("TILLSTREAM__PROCESSOR__SHARDS", shards.to_string());
        command
    }

    /// Processes everything that is on the bus and returns the line of figures.
    pub(crate) fn catch_up(&self, shards: u32) -> Value {
        let mut processor = Running::start(self.serve(shards).stdout(Stdio::piped()));
        while !processor.has_ended() {
            std::thread::sleep(POLL);
        }
        let mut line = String::new();
        let mut stdout = processor.child.stdout.take().expect("it is piped");
        stdout.read_to_string(&mut line).expect("UTF-8");
        serde_json::from_str(line.lines().last().expect("a line of figures")).expect("JSON")
    }

    /// Processes everything in small batches while `disturb` is called again and again.
    pub(crate) fn catch_up_disturbed(&self, shards: u32, mut disturb: impl FnMut()) {
        let mut command = self.serve(shards);
        command.env("TILLSTREAM__PROCESSOR__BATCHEVENTSMAX", "200");
        let mut processor = Running::start(command.stdout(Stdio::null()));
        while !processor.has_ended() {
            disturb();
            std::thread::sleep(POLL);
        }
    }

    /// How many records of `pos.events` have been applied.
    pub(crate) fn progress(&self) -> i64 {
        results::progress(&self.store)
    }

    /// Starts processing and kills the process without warning as soon as it has committed something new and so many
    /// records are applied in all. Returns false if it caught up before.
    pub(crate) fn catch_up_until_killed(&self, shards: u32, records: i64) -> bool {
        let records = records.max(self.progress() + 1);
        let mut command = self.serve(shards);
        // Small batches: there is enough left for the next kill, and their size must not matter either.
        command.env("TILLSTREAM__PROCESSOR__BATCHEVENTSMAX", "200");
        let mut processor = Running::start(command.stdout(Stdio::null()));
        while !processor.has_ended() {
            if self.progress() >= records {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

/// A process that does not outlive the test; dropping it is `kill -9`.
struct Running {
    child: Child,
    since: Instant,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        Self { child: command.spawn().expect("the processor starts"), since: Instant::now() }
    }

    /// True once it has ended well; one that never ends fails the test.
    fn has_ended(&mut self) -> bool {
        assert!(self.since.elapsed() < PATIENCE, "serve --until-caught-up has not ended after {PATIENCE:?}");
        let status = self.child.try_wait().expect("the processor can be asked");
        assert!(status.is_none_or(|status| status.success()), "serve --until-caught-up ends with {status:?}");
        status.is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if the process has already ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
