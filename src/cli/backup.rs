//! `tillstream backup`: embedded store and log copied to a directory, while the process works.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::usage;
use crate::bus::embedded::EmbeddedBus;
use crate::config::{BusKind, Config, StoreUrl};
use crate::sqlite::private;
use crate::store::Store;

/// Copies the SQLite store, and the embedded log if there is one, while a process works on them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tillstream backup --config tillstream.toml /backup/2026-11-22\n\nTo restore, stop the process and put the \
files in the places of store.url and bus.path, without the -wal and -shm files that are left there. A MySQL store has tools of \
its own: see docs/operations.md."
)]
pub struct BackupArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the copies go; created if it is not there
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Copies the store, then the log: a store may be older than its bus, never newer.
///
/// # Errors
/// If something cannot be read or written, or a copy is there already.
pub fn run(args: &BackupArgs) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), &[])?;
    let StoreUrl::Sqlite(store) = &config.store.url else {
        return Err(usage("a MySQL store is copied with mysqldump --single-transaction; see docs/operations.md"));
    };
    let directory = &args.directory;
    private::create_directory(directory).with_context(|| format!("{} cannot be created", directory.display()))?;
    let (store_copy, log_copy) = (directory.join("store.db"), directory.join("bus.db"));
    Store::backup(store, &store_copy)?;
    finish(&store_copy)?;
    if config.bus.kind == BusKind::Embedded {
        EmbeddedBus::backup(&config.bus.path, &log_copy)?;
        finish(&log_copy)?;
    }
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// Makes the copy safe from a power cut and says where it is.
fn finish(copy: &Path) -> anyhow::Result<()> {
    File::open(copy)?.sync_all()?;
    Ok(writeln!(std::io::stdout().lock(), "{}", copy.display())?)
}
