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
/// Its name among the parts of the process.
const PART: &str = "expiry";

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
    loop {
        sweep(store, keep, status).await;
        tokio::time::sleep(EVERY).await;
    }
}

/// Looks at all tables once. One that fails is named, and the others go on.
async fn sweep(store: &Store, keep: &Keep, status: &Status) {
    let clock = store.clock().await;
    for (&what, &time) in keep {
        let now = if what.is_of_events() { clock.clone() } else { Ok(Some(Timestamp::now())) };
        match remove(store, what, now, time, status).await {
            Ok(()) => status.parked.unpark(PART, what.as_str()),
            Err(error) => status.parked.park(PART, what.as_str(), &format!("what is old cannot be removed: {error}")),
        }
    }
}

async fn remove(
    store: &Store,
    what: Expiring,
    now: Result<Option<Timestamp>, StoreError>,
    time: Duration,
    status: &Status,
) -> Result<(), StoreError> {
    let Some(now) = now? else { return Ok(()) };
    let before = now.plus_millis(-i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    loop {
        let begun = Instant::now();
        let removed = store.expire(what, before).await?;
        status.removed(what).add(removed as u64);
        if removed < EXPIRED_ROWS_MAX {
            return Ok(());
        }
        tokio::time::sleep(begun.elapsed() * REST).await;
    }
}

#[cfg(test)]
mod tests {
    use diesel::Connection;
    use diesel::connection::SimpleConnection;

    use super::*;
    use crate::config::Role;

    #[tokio::test]
    async fn a_table_that_fails_is_named_and_what_is_old_in_others_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db").display().to_string();
        let store = Store::open(&format!("sqlite:{path}")).await.unwrap();
        let mut database = diesel::SqliteConnection::establish(&path).unwrap();
        database
            .batch_execute(
                "ALTER TABLE orders RENAME TO away; \
                 INSERT INTO audit (at, actor, action, subject) VALUES (1, 'ann', 'alert.change', 'a')",
            )
            .unwrap();
        let keep = [Expiring::Orders, Expiring::Audit].map(|what| (what, Duration::from_secs(1))).into();
        let status = Status::new(Role::ALL.to_vec());
        sweep(&store, &keep, &status).await;
        assert_eq!(status.removed(Expiring::Audit).get(), 1);
        let parked = status.parked.list();
        assert_eq!((parked.len(), parked[0].part, parked[0].name.as_str()), (1, "expiry", "orders"));
        database.batch_execute("ALTER TABLE away RENAME TO orders").unwrap();
        sweep(&store, &keep, &status).await;
        assert_eq!(status.parked.list(), []);
    }
}
