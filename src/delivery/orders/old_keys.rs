//! Forgets idempotency keys whose time is over, little by little.

use std::time::Duration;

use crate::store::Store;
use crate::time::Timestamp;

/// Keys that are forgotten in one transaction.
const KEYS_MAX: usize = 500;
const EVERY: Duration = Duration::from_mins(1);

/// Forgets keys that are older than `keep`, until the process ends.
///
/// # Errors
/// If the store fails; a fresh start goes on.
pub async fn forget(store: &Store, keep: Duration) -> Result<(), String> {
    let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    loop {
        let expired_before = Timestamp::now().plus_millis(-keep_ms);
        let forgotten = store.forget_order_keys(expired_before, KEYS_MAX).await.map_err(|error| error.to_string())?;
        if forgotten < KEYS_MAX {
            tokio::time::sleep(EVERY).await;
        }
    }
}
