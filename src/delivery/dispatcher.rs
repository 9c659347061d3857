//! The dispatcher: HTTP effects that have been committed, called, and their answers put into the outbox.
//!
//! All state that matters is in the store. A call is ended by one transaction that removes it and writes its answer, so
//! an answer reaches the bus once; a crash between call and transaction repeats the `GET`, which is harmless. Calls that
//! end while the one before is under way share the next transaction. Calls run
//! next to each other, bounded in all and per host, so that a slow host holds up no other. Time-outs, lost connections and
//! statuses from 500 are tried again after a pause with jitter, up to the request's attempts; while the host's breaker is
//! open, calls end at once with `circuit_open`, since a till waits for them.
//!
//! Where several processes dispatch, each takes a share of the calls with [`Leases`]. One that was paused for so long that
//! another took its calls over may repeat a request, but cannot end a call that has been ended.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, Semaphore};

use super::breaker::Breaker;
use super::cache::Answers;
use super::http_call::{self, Answered, CallError};
use super::leases::Leases;
use super::reply;
use super::{Backoff, HttpNotice, Patience};
use crate::bus::NewRecord;
use crate::config::RemoteUrl;
use crate::effect::{HttpEffect, HttpRequest, Service};
use crate::event::ReplyOutcome;
use crate::status::{Parked, ParkedItem, REST};
use crate::store::{HttpEnd, HttpRow, Store, StoreError};
use crate::time::Timestamp;

/// Calls at work at once, those that wait for their host included.
const IN_FLIGHT_MAX: usize = 256;
/// Requests to one host at once.
const IN_FLIGHT_PER_HOST_MAX: usize = 64;
/// Where several processes make calls, each takes some of this many slots: call number n belongs to slot n % 16.
pub(super) const SLOTS: i64 = 16;
/// Its name among the parts of the process.
const PART: &str = "dispatcher";
const RETRY: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(10) };
const STORE_AWAY: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };

/// Where the remote systems are.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// `customers.url`.
    pub customers: Option<RemoteUrl>,
}

impl Endpoints {
    const fn of(&self, service: Service) -> Option<&RemoteUrl> {
        match service {
            Service::Customers => self.customers.as_ref(),
        }
    }
}

#[derive(Debug)]
struct Host {
    slots: Semaphore,
    breaker: Mutex<Breaker>,
}

impl Host {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the dispatcher has done since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DispatcherFigures {
    /// Calls that got an answer, from the cache included.
    pub answered: u64,
    /// Calls that came to nothing.
    pub failed: u64,
    /// Attempts that failed and were followed by another.
    pub retried: u64,
    /// Answers that were used again.
    pub cached: u64,
    /// Breaker of each remote system: `closed`, `open` or `half_open`.
    pub breakers: Vec<(&'static str, &'static str)>,
    /// Why no call can be made now, if that is so.
    pub error: Option<String>,
    /// Calls whose rows cannot be read.
    pub parked: Vec<ParkedItem>,
}

type Listener = Box<dyn Fn(HttpNotice) + Send + Sync>;

/// Makes the calls that plugins asked for.
pub struct Dispatcher {
    store: Store,
    endpoints: Endpoints,
    wake: Arc<Notify>,
    relay: Arc<Notify>,
    listener: Listener,
    /// Where other processes dispatch as well.
    leases: Option<Leases>,
    parked: Parked,
    error: Mutex<Option<String>>,
    client: reqwest::Client,
    answers: Answers,
    hosts: HashMap<Service, Host>,
    answered: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    cached: AtomicU64,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// A dispatcher that looks for calls whenever `wake` is notified, notifies `relay` when an answer is in the outbox, and
    /// tells `listener` how each call ended, once that is committed. With `leases`, other processes may dispatch as well.
    pub fn new(
        store: Store,
        endpoints: Endpoints,
        wake: Arc<Notify>,
        relay: Arc<Notify>,
        leases: Option<Leases>,
        listener: impl Fn(HttpNotice) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let host = || Host { slots: Semaphore::new(IN_FLIGHT_PER_HOST_MAX), breaker: Mutex::new(Breaker::default()) };
        Arc::new(Self {
            store,
            endpoints,
            wake,
            relay,
            listener: Box::new(listener),
            leases,
            parked: Parked::default(),
            error: Mutex::new(Some("it has just started; wait a moment".to_owned())),
            client: http_call::client(),
            answers: Answers::new(),
            hosts: HashMap::from([(Service::Customers, host())]),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            cached: AtomicU64::new(0),
        })
    }

    /// Makes calls until the future is dropped, which is safe at any moment. Only one may run at a time in a process.
    pub async fn run(&self) {
        let mut at_work = HashSet::new();
        let mut calls = FuturesUnordered::new();
        let mut ended = Vec::new();
        // One transaction at a time.
        let mut ending = FuturesUnordered::new();
        let mut failures = 0;
        let mut patience = if self.leases.is_some() { Patience::shared() } else { Patience::alone() };
        loop {
            let free = IN_FLIGHT_MAX - at_work.len();
            if free > 0 {
                // Those at work are still due in the store.
                match self.due(at_work.len() + free).await {
                    Ok(due) => {
                        failures = 0;
                        self.set_error(None);
                        for row in due {
                            if at_work.len() < IN_FLIGHT_MAX && at_work.insert(row.effect.id.clone()) {
                                patience.reset();
                                calls.push(self.serve(row));
                            }
                        }
                    }
                    Err(error) => {
                        failures += 1;
                        self.set_error(Some(error.to_string()));
                        if failures == 1 {
                            tracing::warn!(%error, "HTTP calls that are due cannot be read; trying again");
                        }
                    }
                }
            }
            if ending.is_empty() && !ended.is_empty() {
                ending.push(self.end(std::mem::take(&mut ended)));
            }
            let pause = if failures > 0 { STORE_AWAY.pause(failures) } else { patience.pause() };
            tokio::select! {
                Some(finished) = calls.next() => take_finished(finished, &mut at_work, &mut ended),
                Some(stored) = ending.next() => for id in stored { at_work.remove::<str>(&id); },
                () = self.wake.notified(), if failures == 0 && at_work.len() < IN_FLIGHT_MAX => {}
                () = tokio::time::sleep(pause) => {}
            }
            // Take all that are finished before the store is asked again.
            while let Some(Some(finished)) = calls.next().now_or_never() {
                take_finished(finished, &mut at_work, &mut ended);
            }
        }
    }

    /// Calls of this process's slots whose time has come. Those that cannot be read rest for a while: they would come first again
    /// with every look.
    async fn due(&self, limit: usize) -> Result<Vec<HttpRow>, StoreError> {
        let due = match &self.leases {
            None => self.store.http_due(Timestamp::now(), limit).await?,
            Some(leases) => {
                let names: Vec<String> = (0..SLOTS).map(|slot| format!("{slot:02}")).collect();
                let held = leases.hold(&names).await?;
                let slots: Vec<i64> = held.iter().filter_map(|name| name.parse().ok()).collect();
                if slots.is_empty() {
                    return Ok(Vec::new());
                }
                self.store.http_due_in(Timestamp::now(), limit, SLOTS, slots).await?
            }
        };
        if !due.unreadable.is_empty() {
            for (id, reason) in &due.unreadable {
                self.parked.park(PART, id, reason);
            }
            let ids = due.unreadable.into_iter().map(|(id, _)| id).collect();
            self.store.http_postpone(ids, Timestamp::now().plus_millis(millis(REST))).await?;
        }
        Ok(due.rows)
    }

    fn set_error(&self, error: Option<String>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// True if no call waits or is at work; their answers may still be in the outbox.
    ///
    /// # Errors
    /// Faults of the store: it is not known.
    pub async fn is_idle(&self) -> Result<bool, StoreError> {
        Ok(self.store.http_depth().await? == 0)
    }

    /// What it has done.
    #[must_use]
    pub fn figures(&self) -> DispatcherFigures {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DispatcherFigures {
            answered: load(&self.answered),
            failed: load(&self.failed),
            retried: load(&self.retried),
            cached: load(&self.cached),
            breakers: vec![("customers", self.hosts[&Service::Customers].breaker().state())],
            error: self.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            parked: self.parked.list(),
        }
    }

    /// Makes one attempt of a call; if others may follow, writes down that it failed.
    async fn serve(&self, row: HttpRow) -> Finished {
        let id = row.effect.id.clone();
        match self.attempt(row).await {
            Ok(None) => Finished::Later(id),
            Ok(Some(ended)) => Finished::Ended(Box::new(ended)),
            Err(error) => {
                self.not_stored(&error, 1).await;
                Finished::Later(id)
            }
        }
    }

    /// What could not be stored is still due and will be tried again.
    async fn not_stored(&self, error: &StoreError, calls: usize) {
        tracing::warn!(%error, calls, "the outcome of HTTP calls could not be stored");
        tokio::time::sleep(STORE_AWAY.pause(3)).await;
    }

    async fn attempt(&self, row: HttpRow) -> Result<Option<Ended>, StoreError> {
        let HttpRow { effect, attempts, .. } = row;
        let begun = Instant::now();
        let result = self.answers.get(&effect.request, self.call(&effect.request)).await;
        let attempts = attempts.saturating_add(1);
        let (outcome, cached) = match result {
            Ok((answered, cached)) => (answered.into_outcome(), cached),
            Err(error) if error.is_fault_of_host() && attempts < effect.request.attempts => {
                let next = Timestamp::now().plus_millis(millis(RETRY.pause(attempts)));
                self.retried.fetch_add(1, Ordering::Relaxed);
                self.store.http_attempt_failed(&effect.id, attempts, next, &error.cause()).await?;
                return Ok(None);
            }
            Err(error) => (ReplyOutcome::Failed { error: error.cause() }, false),
        };
        let (records, outcome) = reply::records(&effect, outcome);
        Ok(Some(Ended { effect, records, outcome, attempts, cached, begun }))
    }

    /// Ends calls for good. Returns the ids of those that are no longer at work.
    async fn end(&self, calls: Vec<Ended>) -> Vec<String> {
        let ids = calls.iter().map(|call| call.effect.id.clone()).collect();
        let ends = |calls: &[Ended]| calls.iter().map(Ended::to_store).collect();
        match self.store.http_done(ends(&calls)).await {
            Ok(were_there) => self.ended(calls, &were_there),
            // One of them is at fault: the others must not wait for it.
            Err(StoreError::Refused(_)) if calls.len() > 1 => {
                for call in calls {
                    match self.store.http_done(ends(std::slice::from_ref(&call))).await {
                        Ok(was_there) => self.ended(vec![call], &was_there),
                        Err(error) => self.not_stored(&error, 1).await,
                    }
                }
            }
            Err(error) => self.not_stored(&error, calls.len()).await,
        }
        ids
    }

    /// Calls have been ended; those that were not there any more had been ended before.
    fn ended(&self, calls: Vec<Ended>, were_there: &[bool]) {
        self.relay.notify_one();
        for (call, _) in calls.into_iter().zip(were_there).filter(|(_, was_there)| **was_there) {
            self.tell(call);
        }
    }

    /// Counts a call that has ended, and tells the listener.
    fn tell(&self, call: Ended) {
        let Ended { effect, outcome, attempts, cached, begun, .. } = call;
        let counter = if matches!(outcome, ReplyOutcome::Answered { .. }) { &self.answered } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.cached.fetch_add(u64::from(cached), Ordering::Relaxed);
        let (status, error) = match outcome {
            ReplyOutcome::Answered { status, .. } => (Some(status), None),
            ReplyOutcome::Failed { error } => (None, Some(error)),
        };
        (self.listener)(HttpNotice {
            service: "customers",
            id: effect.id,
            plugin: effect.plugin,
            terminal: effect.terminal,
            at: effect.at,
            path: effect.request.path,
            status,
            error,
            attempts,
            cached,
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
    }

    /// One request to the remote system, if its breaker lets it through.
    async fn call(&self, request: &HttpRequest) -> Result<Answered, CallError> {
        let base = self.endpoints.of(request.service).ok_or(CallError::NotConfigured)?;
        let address = base.item(&request.path).ok_or(CallError::InvalidPath)?;
        let host = &self.hosts[&request.service];
        let timeout = Duration::from_millis(request.timeout_ms);
        let _slot = host.slots.acquire().await.expect("the semaphore is never closed");
        let begun = Instant::now();
        if !host.breaker().admits(begun, timeout) {
            return Err(CallError::CircuitOpen);
        }
        let result = http_call::get(&self.client, address, timeout, &request.keep).await;
        match result {
            Err(error) if error.is_fault_of_host() => {
                if host.breaker().failed(begun, Instant::now()) {
                    tracing::warn!(service = ?request.service, cause = error.cause(), "too many calls failed: paused");
                }
            }
            _ => host.breaker().succeeded(Instant::now()),
        }
        result
    }
}

/// How an attempt came out.
enum Finished {
    /// The call with this id is tried again when it is due again.
    Later(String),
    /// There will be no other attempt.
    Ended(Box<Ended>),
}

/// A call that has an outcome and is to be ended in the store.
struct Ended {
    effect: HttpEffect,
    records: Vec<NewRecord>,
    outcome: ReplyOutcome,
    attempts: u32,
    cached: bool,
    begun: Instant,
}

impl Ended {
    fn to_store(&self) -> HttpEnd {
        HttpEnd { id: self.effect.id.clone(), records: self.records.clone(), dead_letter: None }
    }
}

fn take_finished(finished: Finished, at_work: &mut HashSet<String>, ended: &mut Vec<Ended>) {
    match finished {
        Finished::Later(id) => {
            at_work.remove(&id);
        }
        Finished::Ended(call) => ended.push(*call),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
