//! What is kept here is for the owner of the process alone: directories of mode 0700, files of mode 0600. SQLite gives the
//! files that it makes beside a database the database's mode.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::files::SUFFIXES;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// What group and others may do.
const OTHERS: u32 = 0o077;

/// Makes a directory, and those above it, unless it is there.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
}

/// Opens a file for writing; makes it unless it is there.
///
/// # Errors
/// If it cannot be opened.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(path)
}

/// Makes an empty file.
///
/// # Errors
/// If it is there, or cannot be made.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(path)
}

/// Keeps others out of a database that an earlier version, or somebody else, left open to them. What belongs to another
/// user is left as it is, and named in the log.
pub(crate) fn tighten(database: &Path) {
    for suffix in SUFFIXES {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        restrict(&PathBuf::from(name), FILE_MODE);
    }
    let Some(directory) = database.parent().filter(|directory| !directory.as_os_str().is_empty()) else { return };
    if holds_databases_alone(directory) {
        restrict(directory, DIRECTORY_MODE);
    } else if fs::metadata(directory).is_ok_and(|found| is_open_to_others(found.mode())) {
        tracing::warn!(
            directory = %directory.display(),
            "others may write in this directory, so they can replace the database; keep it in a directory of its own (chmod 700)"
        );
    }
}

fn restrict(path: &Path, mode: u32) {
    let Ok(found) = fs::metadata(path) else { return };
    if found.mode() & OTHERS == 0 {
        return;
    }
    match fs::set_permissions(path, Permissions::from_mode(mode)) {
        Ok(()) => tracing::info!(path = %path.display(), "others could read this; from now on only its owner can"),
        Err(error) => tracing::warn!(
            path = %path.display(), %error,
            "others can read this, and its rights cannot be changed; run chmod go= on it as its owner"
        ),
    }
}

/// True if nothing else is kept there, so that nobody else needs to get in.
fn holds_databases_alone(directory: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(directory) else { return false };
    entries.all(|entry| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            SUFFIXES.iter().any(|suffix| name.ends_with(&format!(".db{suffix}")))
        })
    })
}

/// Others may write there and remove what is not theirs.
const fn is_open_to_others(mode: u32) -> bool {
    const STICKY: u32 = 0o1000;
    const WRITABLE: u32 = 0o022;
    mode & WRITABLE != 0 && mode & STICKY == 0
}
