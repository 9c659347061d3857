//! Who of several processes delivers what: each takes its share of the names that there are, for a few seconds at a time.
//!
//! A process that dies leaves its share to the others when its leases run out; one that stops in good order gives them
//! back. A lease only keeps processes out of each other's way: what is done twice because one was paused for too long
//! must be harmless, and is (the bus keeps each lane's position, a call is ended once).

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::{Lease, LeaseRequest, Store, StoreError};

/// How long a lease holds without being renewed: this long nobody delivers what a killed process had taken.
const HOLD: Duration = Duration::from_secs(2);
/// How often leases are renewed.
const RENEW: Duration = Duration::from_millis(500);
/// A holder that could not renew for so long does nothing more: others may have taken over.
const TRUST: Duration = Duration::from_millis(1500);
/// How soon a name that somebody else had is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// What nobody has taken for so long is taken even by one that has its share already.
const NEGLECTED: Duration = Duration::from_millis(500);

/// One process's share of the names below a prefix.
#[derive(Debug)]
pub struct Leases {
    store: Store,
    prefix: &'static str,
    owner: String,
    /// How many processes share the names, this one included; 0 before anybody counted.
    contenders: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeSet<String>,
    /// Until when what is held may be relied upon.
    trusted_until: Option<Instant>,
    renew_at: Option<Instant>,
    /// Names that somebody else had or that were given back, and when to ask for them again.
    ask_at: HashMap<String, Instant>,
    /// Names seen free, and since when.
    free_since: HashMap<String, Instant>,
    /// Names with a holder, as last seen.
    taken: usize,
}

impl Leases {
    /// Nothing taken yet. `owner` is another text for every process that was ever started.
    #[must_use]
    pub fn new(store: Store, prefix: &'static str, owner: &str, contenders: Arc<AtomicUsize>) -> Self {
        Self { store, prefix, owner: owner.to_owned(), contenders, state: Mutex::default() }
    }

    /// Which of these names are this process's to deal with now.
    ///
    /// # Errors
    /// Faults of the store, once nothing can be relied upon any more.
    pub async fn hold(&self, names: &[String]) -> Result<Vec<String>, StoreError> {
        let now = Instant::now();
        if let Some(request) = self.request(names, now) {
            let answer = self.store.lease(request.clone()).await;
            match answer {
                Ok(leases) => self.learn(&request, &leases, now),
                Err(error) if !self.is_trusted(now) => return Err(error),
                Err(_) => {}
            }
        }
        let state = self.state();
        let trusted = state.trusted_until.is_some_and(|until| until > Instant::now());
        Ok(names.iter().filter(|name| trusted && state.held.contains(*name)).cloned().collect())
    }

    /// Somebody else has taken a name over although it was held here.
    pub fn lost(&self, name: &str) {
        let mut state = self.state();
        state.held.remove(name);
        state.ask_at.insert(name.to_owned(), Instant::now() + ASK_AGAIN);
        state.renew_at = None;
    }

    /// True if this process had a name when it last asked.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.state().held.contains(name)
    }

    /// How many names this process holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.state().held.len()
    }

    fn is_trusted(&self, now: Instant) -> bool {
        self.state().trusted_until.is_some_and(|until| until > now)
    }

    /// What to ask the store for, if it is time to ask.
    fn request(&self, names: &[String], now: Instant) -> Option<LeaseRequest> {
        let mut state = self.state();
        let state = &mut *state;
        let contenders = self.contenders.load(Ordering::Relaxed).max(1);
        let wanted: Vec<&String> = names.iter().filter(|name| !state.held.contains(*name)).collect();
        for name in &wanted {
            state.free_since.entry((*name).clone()).or_insert(now);
        }
        let all = state.taken.max(state.held.len() + wanted.len());
        let share = all.div_ceil(contenders);
        let mut room = share.saturating_sub(state.held.len());
        let may_ask = |name: &String| state.ask_at.get(name).is_none_or(|at| *at <= now);
        let is_neglected =
            |name: &String| state.free_since.get(name).is_some_and(|since| now.duration_since(*since) >= NEGLECTED);
        let take: Vec<String> = wanted
            .into_iter()
            .filter(|name| may_ask(name))
            .filter(|name| {
                let fits = room > 0;
                room = room.saturating_sub(1);
                fits || is_neglected(name)
            })
            .cloned()
            .collect();
        let renew = state.renew_at.is_none_or(|at| at <= now) && !state.held.is_empty();
        if take.is_empty() && !renew {
            return None;
        }
        let surplus = if renew { state.held.len().saturating_sub(share) } else { 0 };
        let give: Vec<String> = state.held.iter().rev().take(surplus).cloned().collect();
        for name in &give {
            // At once, so that nothing more is done with it while the request is on its way.
            state.held.remove(name);
            state.ask_at.insert(name.clone(), now + NEGLECTED);
        }
        for name in &take {
            state.ask_at.insert(name.clone(), now + ASK_AGAIN);
        }
        let owner = self.owner.clone();
        Some(LeaseRequest {
            prefix: self.prefix.to_owned(),
            owner,
            take: self.full(&take),
            give: self.full(&give),
            hold: HOLD,
        })
    }

    fn full(&self, names: &[String]) -> Vec<String> {
        names.iter().map(|name| format!("{}{name}", self.prefix)).collect()
    }

    fn learn(&self, request: &LeaseRequest, leases: &[Lease], asked_at: Instant) {
        let mut state = self.state();
        state.taken = leases.len();
        state.held.clear();
        for lease in leases {
            let Some(name) = lease.name.strip_prefix(self.prefix) else {
                continue;
            };
            state.free_since.remove(name);
            if lease.owner == self.owner && !request.give.contains(&lease.name) {
                state.held.insert(name.to_owned());
                state.ask_at.remove(name);
            }
        }
        state.trusted_until = Some(asked_at + TRUST);
        state.renew_at = Some(asked_at + RENEW);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", directory.path().join("store.db").display())).await.unwrap();
        (directory, store)
    }

    fn leases(store: &Store, owner: &str, contenders: usize) -> Leases {
        Leases::new(store.clone(), "relay:", owner, Arc::new(AtomicUsize::new(contenders)))
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("lane-{number}")).collect()
    }

    #[tokio::test]
    async fn one_alone_takes_everything_and_a_second_one_gets_half_of_it() {
        let (_directory, store) = store().await;
        let (names, first) = (names(7), leases(&store, "first", 1));
        assert_eq!(first.hold(&names).await.unwrap(), names);
        first.contenders.store(2, Ordering::Relaxed);
        let second = leases(&store, "second", 2);
        let begun = Instant::now();
        loop {
            let (mine, theirs) = (first.hold(&names).await.unwrap(), second.hold(&names).await.unwrap());
            assert!(mine.iter().all(|name| !theirs.contains(name)), "no name has two holders");
            if mine.len() + theirs.len() == names.len() && theirs.len() >= 3 {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{mine:?} {theirs:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn what_is_given_back_goes_to_the_other_at_once_and_what_is_not_goes_when_it_has_run_out() {
        let (_directory, store) = store().await;
        let names = names(3);
        for in_good_order in [true, false] {
            let first = leases(&store, if in_good_order { "leaves" } else { "dies" }, 1);
            assert_eq!(first.hold(&names).await.unwrap().len(), 3);
            let second = leases(&store, "stays", 1);
            assert!(second.hold(&names).await.unwrap().is_empty());
            let begun = Instant::now();
            if in_good_order {
                store.release_leases("leaves").await.unwrap();
            }
            while second.hold(&names).await.unwrap().len() < 3 {
                assert!(begun.elapsed() < HOLD * 3, "nobody took over");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(begun.elapsed() < HOLD / 2, in_good_order, "{:?}", begun.elapsed());
            store.release_leases("stays").await.unwrap();
        }
    }

    #[tokio::test]
    async fn one_that_was_told_it_lost_a_name_does_not_use_it_before_the_store_says_so() {
        let (_directory, store) = store().await;
        let first = leases(&store, "first", 1);
        assert_eq!(first.hold(&names(2)).await.unwrap().len(), 2);
        first.lost("lane-0");
        store.release_leases("first").await.unwrap();
        assert!(!first.hold(&names(2)).await.unwrap().contains(&"lane-0".to_owned()));
    }
}
