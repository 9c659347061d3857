//! Removes from the store what has been kept long enough, little by little.
//!
//! Every process of role `processor` does; what one has removed the others no longer find. How old a result is, the clock of
//! events says: a log of last year that is read today keeps its results, and so does a shop whose events do not come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::status::Status;
use crate::store::{EXPIRED_ROWS_MAX, Expiring, Store, StoreError};
use crate::time::Timestamp;

const EVERY: Duration = Duration::from_mins(1);
/// Between two transactions passes this many times what the first one took: others come first.
const REST: u32 = 4;

/// For how long sessions of people stay behind their end, which is by the database's clock and not by this process's.
const LOGINS_LINGER: Duration = Duration::from_hours(1);

/// How long what is kept; what is absent is kept for ever.
pub type Keep = BTreeMap<Expiring, Duration>;

/// As it is configured.
#[must_use]
pub fn configured(config: &Config) -> Keep {
    let keep = config.store.keep;
    // As long as its key is remembered, who repeats a request must find the order.
    let orders = keep.orders.map(|orders| orders.max(config.orders.keep_keys));
    let times = [
        (Expiring::Orders, orders),
        (Expiring::OrderKeys, Some(config.orders.keep_keys)),
        (Expiring::Alerts, keep.results),
        (Expiring::AgePrompts, keep.results),
        (Expiring::Recommendations, keep.results),
        (Expiring::Sessions, keep.time_sheets),
        (Expiring::DeadLetters, keep.dead_letters),
        (Expiring::Audit, keep.audit),
        (Expiring::Logins, Some(LOGINS_LINGER)),
    ];
    times.into_iter().filter_map(|(what, time)| Some((what, time?))).collect()
}

/// Removes what is too old, until the future is dropped, which is safe at any moment.
pub async fn run(store: &Store, keep: &Keep, status: &Arc<Status>) {
    let mut failed = false;
    loop {
        match sweep(store, keep, status).await {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(%error, "what is old cannot be removed from the store; trying again every minute");
            }
            Err(_) => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn sweep(store: &Store, keep: &Keep, status: &Status) -> Result<(), StoreError> {
    let clock = store.clock().await?;
    for (&what, &time) in keep {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let now = if what.is_of_events() { clock } else { Some(Timestamp::now()) };
        let Some(now) = now else { continue };
        let before = now.plus_millis(-millis);
        loop {
            let begun = Instant::now();
            let removed = store.expire(what, before).await?;
            status.removed(what).add(removed as u64);
            if removed < EXPIRED_ROWS_MAX {
                break;
            }
            tokio::time::sleep(begun.elapsed() * REST).await;
        }
    }
    Ok(())
}
