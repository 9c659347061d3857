//! What is set aside so that the others go on: rows that cannot be read, partitions that cannot be reached.
//!
//! Whoever sets something aside tries it again now and then, and says so here each time. What nobody has named for a while is no
//! longer there: somebody removed it, or another process has it now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::time::Timestamp;

/// How long something that was set aside rests before it is tried again.
pub const REST: Duration = Duration::from_mins(1);
/// What was not named for so long is forgotten: several times the rest.
const FORGET: Duration = Duration::from_mins(3);
/// Items of one part that are remembered by name; more of them are one fault.
const ITEMS_MAX: usize = 200;

/// Something that is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedItem {
    /// The part of the process that set it aside.
    pub part: &'static str,
    /// What it is: the id of a row, a partition, a table.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

#[derive(Debug)]
struct Known {
    item: ParkedItem,
    named_at: Instant,
}

/// All that a process has set aside; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Parked(Arc<Mutex<BTreeMap<(&'static str, String), Known>>>);

impl Parked {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(&'static str, String), Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is set aside, now or still.
    pub fn park(&self, part: &'static str, name: &str, reason: &str) {
        let mut items = self.lock();
        let key = (part, name.to_owned());
        if let Some(known) = items.get_mut(&key) {
            known.named_at = Instant::now();
            reason.clone_into(&mut known.item.reason);
            return;
        }
        if items.keys().filter(|(known, _)| *known == part).count() >= ITEMS_MAX {
            return;
        }
        tracing::error!(part, name, reason, "set aside: the others go on, and it is tried again every minute");
        let item = ParkedItem { part, name: name.to_owned(), reason: reason.to_owned(), since: Timestamp::now() };
        items.insert(key, Known { item, named_at: Instant::now() });
    }

    /// It goes on.
    pub fn unpark(&self, part: &'static str, name: &str) {
        let mut items = self.lock();
        if !items.is_empty() && items.remove(&(part, name.to_owned())).is_some() {
            tracing::info!(part, name, "what was set aside goes on");
        }
    }

    /// What is set aside, by part and name.
    #[must_use]
    pub fn list(&self) -> Vec<ParkedItem> {
        let mut items = self.lock();
        items.retain(|_, known| known.named_at.elapsed() < FORGET);
        items.values().map(|known| known.item.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_again_keeps_its_time_and_what_goes_on_is_no_longer_there() {
        let parked = Parked::default();
        parked.park("evidence", "a1", "cannot be read");
        let since = parked.list()[0].since;
        parked.clone().park("evidence", "a1", "still cannot be read");
        parked.unpark("evidence", "a2");
        let item = &parked.list()[0];
        assert_eq!((item.reason.as_str(), item.since), ("still cannot be read", since));
        parked.unpark("evidence", "a1");
        assert_eq!(parked.list(), []);
    }

    #[test]
    fn many_faults_of_one_part_leave_room_for_those_of_others() {
        let parked = Parked::default();
        for number in 0..ITEMS_MAX * 2 {
            parked.park("evidence", &number.to_string(), "cannot be read");
        }
        parked.park("expiry", "alerts", "locked");
        assert_eq!(parked.list().len(), ITEMS_MAX + 1);
    }
}
