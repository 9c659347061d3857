//! One process per log: an advisory lock of the operating system on `PATH.lock`, gone when its process is.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::bus::BusError;
use crate::sqlite::private;

/// Takes the lock of the log at `path`, creating its directory; held for as long as the file stays open.
pub(super) fn lock(path: &Path) -> Result<File, BusError> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        private::create_directory(directory).map_err(|error| not_writable(directory, &error))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let file = private::open(&lock_path).map_err(|error| not_writable(&lock_path, &error))?;
    match file.try_lock() {
        Ok(()) => {
            // SQLite would let others read a file that it makes.
            private::open(path).map_err(|error| not_writable(path, &error))?;
            private::tighten(path);
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(BusError::Misconfigured(format!(
            "{} is in use by another process, which holds {}; stop that process, or send events through it, for instance \
             with `tillstream rig --to http://127.0.0.1:8080`",
            path.display(),
            lock_path.display()
        ))),
        Err(TryLockError::Error(error)) => {
            Err(BusError::Misconfigured(format!("{} cannot be locked: {error}", lock_path.display())))
        }
    }
}

fn not_writable(path: &Path, error: &std::io::Error) -> BusError {
    BusError::Misconfigured(format!(
        "{} cannot be written to: {error}; check owner and rights, or name another place in bus.path",
        path.display()
    ))
}
