//! How much room the disk of a file has.

use std::path::Path;

/// A disk with less than this share of its bytes free is nearly full, unless [`FREE_BYTES_ENOUGH`] are free.
const FREE_SHARE_MIN: u64 = 10;
/// So many free bytes are enough on a disk of any size.
const FREE_BYTES_ENOUGH: u64 = 5_000_000_000;

/// Room on the disk that holds a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that this process may still write.
    pub free_bytes: u64,
    /// Size in bytes.
    pub bytes: u64,
}

impl Disk {
    /// The disk that holds `path`; `None` if the system does not say.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let room = rustix::fs::statvfs(directory).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(room.f_frsize);
        Some(Self { free_bytes: bytes(room.f_bavail), bytes: bytes(room.f_blocks) })
    }

    /// True if less than a tenth is free, and less than 5 GB. The alert `TillstreamDiskNearlyFull` says the same.
    #[must_use]
    pub const fn is_nearly_full(self) -> bool {
        self.free_bytes < self.bytes / FREE_SHARE_MIN && self.free_bytes < FREE_BYTES_ENOUGH
    }
}
