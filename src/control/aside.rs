//! Work that depends on what strangers wrote, on a thread of its own: its cost is bounded, but neither the HTTP workers nor the
//! pipeline shall wait for it, and if it panics only its outcome is missing.

use tokio::task::JoinError;

/// Does the work where blocking hurts nobody.
///
/// # Errors
/// If the work panicked, or the runtime ends.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(work).await
}
