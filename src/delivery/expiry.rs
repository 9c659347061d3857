//! Removes from the store what has been kept long enough, little by little.
//!
//! Every process of role `processor` does; what one has removed the others no longer find. How old a result is, the clock of
//! events says: a log of last year that is read today keeps its results, and so does a shop whose events do not come. States of
//! terminals, employees, customers and cards, and duplicate windows, carry the time at which they expire; each process removes
//! those of its own partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bus::Topic;
use crate::config::Config;
use crate::event::Scope;
use crate::plugins::{Plugin, PluginVisitor, visit_all};
use crate::status::Status;
use crate::store::{EXPIRED_ROWS_MAX, Expiring, ForgetStep, Store, StoreError};
use crate::time::Timestamp;

const EVERY: Duration = Duration::from_mins(1);
/// How often states and windows are walked: they expire at the end of a day.
const FORGET_EVERY: Duration = Duration::from_hours(1);
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
    let mut forgotten_at: Option<Instant> = None;
    loop {
        sweep(store, keep, status).await;
        if forgotten_at.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
            forgotten_at = Some(Instant::now());
            forget(store, status).await;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Walks the states and duplicate windows of the partitions that this process owns once, and removes what has expired.
pub async fn forget(store: &Store, status: &Status) {
    for (place, _) in status.partitions() {
        let mut kinds = Kinds(Vec::new());
        visit_all(&mut kinds);
        let mut walked = Ok(());
        for kind in kinds.0 {
            walked = walk(status, "entities", async |after| store.forget_states(place, kind, after).await).await;
            if walked.is_err() {
                break;
            }
        }
        if walked.is_ok() && place.topic == Topic::Events {
            let partition = place.partition;
            walked = walk(status, "windows", async |after| store.forget_windows(partition, after).await).await;
        }
        match walked {
            Ok(()) => status.parked.unpark(PART, &place.to_string()),
            Err(error) => {
                status.parked.park(PART, &place.to_string(), &format!("what has expired cannot be removed: {error}"));
            }
        }
    }
}

/// The plugins with state, each with the scopes that it may be keyed by.
struct Kinds(Vec<(&'static str, Scope)>);

impl PluginVisitor for Kinds {
    fn visit<P: Plugin>(&mut self) {
        self.0.extend(Scope::ALL.map(|scope| (P::NAME, scope)));
    }
}

async fn walk(
    status: &Status,
    table: &'static str,
    mut step: impl AsyncFnMut(String) -> Result<ForgetStep, StoreError>,
) -> Result<(), StoreError> {
    let mut after = String::new();
    loop {
        let begun = Instant::now();
        let done = step(after).await?;
        status.removed(table).add(done.removed as u64);
        match done.next {
            Some(next) => after = next,
            None => return Ok(()),
        }
        tokio::time::sleep(begun.elapsed() * REST).await;
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
        status.removed(what.as_str()).add(removed as u64);
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
        assert_eq!(status.removed("audit").get(), 1);
        let parked = status.parked.list();
        assert_eq!((parked.len(), parked[0].part, parked[0].name.as_str()), (1, "expiry", "orders"));
        database.batch_execute("ALTER TABLE away RENAME TO orders").unwrap();
        sweep(&store, &keep, &status).await;
        assert_eq!(status.parked.list(), []);
    }
}
