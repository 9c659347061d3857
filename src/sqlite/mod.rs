//! What the two SQLite files of an installation share, the store and the embedded log: their write-ahead logs stay small, a
//! file that was removed or replaced under the process is noticed, and nobody but the owner can read them.
//!
//! Owns no table and runs no query of the product. Only this folder, `store` and `bus/embedded` know Diesel.

mod checkpointer;
mod disk;
mod files;
pub(crate) mod private;
#[cfg(test)]
mod tests;
mod wal;

pub(crate) use checkpointer::Checkpointer;
pub use disk::Disk;
pub use files::Files;
pub use wal::WAL_BYTES_MAX;

/// How long a connection waits for a lock that another connection holds, in milliseconds. Longer than a writer waits for
/// readers when it empties the write-ahead log.
pub(crate) const BUSY_TIMEOUT_MS: u64 = 10_000;
