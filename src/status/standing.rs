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

/// What one look adds at most: a process that was paused, or whose watch began anew, has not seen that a place stood meanwhile.
const LOOK_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Place {
    position: String,
    /// Since when it has been here with something to do.
    since: Option<Timestamp>,
    /// For how long that has been seen.
    stood: Duration,
    seen: Instant,
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
            let since = has_work.then(Timestamp::now);
            let fresh = Place { position: position.to_owned(), since, stood: Duration::ZERO, seen: now, cause };
            places.insert(place.to_owned(), fresh);
            return;
        }
        if let Some(known) = places.get_mut(place) {
            if known.since.is_some() {
                known.stood += now.saturating_duration_since(known.seen).min(LOOK_MAX);
            }
            known.since.get_or_insert_with(Timestamp::now);
            known.seen = now;
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
        let places = self.lock();
        let standing = places.iter().filter(|(_, place)| place.stood >= patience).filter_map(|(name, place)| {
            Some(StandingPlace {
                place: name.clone(),
                position: place.position.clone(),
                since: place.since?,
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
    const LOOK: Duration = Duration::from_secs(3);

    /// Looks at a place every 3 s, so many times.
    fn look(standing: &Standing, position: &str, has_work: bool, times: u32, from: Instant) -> Instant {
        for time in 0..times {
            standing.saw_at("pos.events/0", position, has_work, None, from + LOOK * time);
        }
        from + LOOK * times
    }

    #[test]
    fn a_place_stands_still_that_does_not_move_for_long_with_something_to_do() {
        let standing = Standing::default();
        let later = look(&standing, "offset 7", true, 10, Instant::now());
        assert_eq!(standing.for_longer_than(PATIENCE), []);
        let later = look(&standing, "offset 7", true, 1, later);
        let found = standing.for_longer_than(PATIENCE);
        assert_eq!((found[0].place.as_str(), found[0].position.as_str()), ("pos.events/0", "offset 7"));
        look(&standing, "offset 8", true, 1, later);
        assert_eq!(standing.for_longer_than(PATIENCE), [], "it moves");
    }

    #[test]
    fn a_place_without_anything_to_do_may_rest_and_its_time_counts_from_when_there_is_something() {
        let standing = Standing::default();
        let later = look(&standing, "offset 7", false, 100, Instant::now());
        let later = look(&standing, "offset 7", true, 10, later);
        assert_eq!(standing.for_longer_than(PATIENCE), []);
        look(&standing, "offset 7", true, 1, later);
        assert_eq!(standing.for_longer_than(PATIENCE).len(), 1);
    }

    #[test]
    fn a_process_that_was_paused_accuses_nobody() {
        let standing = Standing::default();
        let later = look(&standing, "offset 7", true, 3, Instant::now());
        look(&standing, "offset 7", true, 1, later + Duration::from_mins(10));
        assert_eq!(standing.for_longer_than(PATIENCE), []);
    }

    #[test]
    fn the_cause_holds_until_the_place_moves_and_a_place_that_is_watched_no_more_is_forgotten() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.saw_at("lane", "row 1", true, Some("too large".to_owned()), start);
        standing.saw_at("lane", "row 1", true, None, start + LOOK);
        let found = standing.for_longer_than(LOOK);
        assert_eq!(found[0].cause.as_deref(), Some("too large"));
        standing.retain(|place| place != "lane");
        assert_eq!(standing.for_longer_than(LOOK), []);
    }
}
