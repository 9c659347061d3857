//! Places that stand still although there is something to do: a partition, a lane of the outbox, a slot of calls, a control topic.
//!
//! Whoever watches a place reports where it stands and whether something waits behind that. A place that has not moved for a while,
//! with something to do all the time, stands still: whatever the cause. The cause is told beside it by whoever knows it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::time::Timestamp;

/// A place that does not move, with something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingPlace {
    /// Such as `pos.events/3` or `outbox lane control`.
    pub place: String,
    /// Where it stands, such as `offset 17`.
    pub position: String,
    /// Since when it could have moved on.
    pub since: Timestamp,
    /// Why, if anybody knows.
    pub cause: Option<String>,
}

#[derive(Debug)]
struct Place {
    position: String,
    /// Since when it has been here with something to do.
    waiting: Option<(Instant, Timestamp)>,
    cause: Option<String>,
}

/// Where all watched places of a process stand.
#[derive(Debug, Default)]
pub struct Standing {
    places: Mutex<BTreeMap<String, Place>>,
}

impl Standing {
    /// A place stands at `position`; `has_work` says whether something waits behind it.
    pub fn saw(&self, place: &str, position: &str, has_work: bool, cause: Option<String>) {
        self.saw_at(place, position, has_work, cause, Instant::now());
    }

    fn saw_at(&self, place: &str, position: &str, has_work: bool, cause: Option<String>, now: Instant) {
        let mut places = self.lock();
        let moved = places.get(place).is_none_or(|known| known.position != position);
        if moved || !has_work {
            let waiting = has_work.then(|| (now, Timestamp::now()));
            places.insert(place.to_owned(), Place { position: position.to_owned(), waiting, cause });
            return;
        }
        if let Some(known) = places.get_mut(place) {
            known.waiting.get_or_insert_with(|| (now, Timestamp::now()));
            // What was said of the place holds until it moves.
            known.cause = cause.or_else(|| known.cause.take());
        }
    }

    /// Only these places are watched from now on.
    pub fn retain(&self, is_watched: impl Fn(&str) -> bool) {
        self.lock().retain(|place, _| is_watched(place));
    }

    /// Places that have stood for so long with something to do.
    #[must_use]
    pub fn for_longer_than(&self, patience: Duration) -> Vec<StandingPlace> {
        self.for_longer_than_at(patience, Instant::now())
    }

    fn for_longer_than_at(&self, patience: Duration, now: Instant) -> Vec<StandingPlace> {
        let places = self.lock();
        let standing = places.iter().filter_map(|(name, place)| {
            let (since, at) = place.waiting?;
            (now.saturating_duration_since(since) >= patience).then(|| StandingPlace {
                place: name.clone(),
                position: place.position.clone(),
                since: at,
                cause: place.cause.clone(),
            })
        });
        standing.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const LONG: Duration = Duration::from_secs(31);

    #[test]
    fn a_place_stands_still_that_does_not_move_for_long_with_something_to_do() {
        let (standing, start) = (Standing::default(), Instant::now());
        let saw = |position, has_work, after| standing.saw_at("pos.events/0", position, has_work, None, start + after);
        saw("offset 7", true, Duration::ZERO);
        assert_eq!(standing.for_longer_than_at(PATIENCE, start), []);
        saw("offset 7", true, LONG);
        let found = standing.for_longer_than_at(PATIENCE, start + LONG);
        assert_eq!((found[0].place.as_str(), found[0].position.as_str()), ("pos.events/0", "offset 7"));
        saw("offset 8", true, LONG);
        assert_eq!(standing.for_longer_than_at(PATIENCE, start + LONG), [], "it moves");
    }

    #[test]
    fn a_place_without_anything_to_do_may_rest_and_its_time_counts_from_when_there_is_something() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.saw_at("lane", "row 1", false, None, start);
        standing.saw_at("lane", "row 1", true, None, start + LONG);
        assert_eq!(standing.for_longer_than_at(PATIENCE, start + LONG), []);
        assert_eq!(standing.for_longer_than_at(PATIENCE, start + LONG + LONG).len(), 1);
    }

    #[test]
    fn whoever_watches_may_die_meanwhile_and_the_place_still_counts() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.saw_at("lane", "row 1", true, Some("the record is too large".to_owned()), start);
        standing.saw_at("lane", "row 1", true, None, start + Duration::from_secs(1));
        let found = standing.for_longer_than_at(PATIENCE, start + LONG);
        assert_eq!(found[0].cause.as_deref(), Some("the record is too large"), "the cause holds until it moves");
        standing.retain(|place| place != "lane");
        assert_eq!(standing.for_longer_than_at(PATIENCE, start + LONG), []);
    }
}
