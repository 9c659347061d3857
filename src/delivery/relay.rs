//! The relay: outbox -> bus, lane by lane in order, each row once.
//!
//! A row is sent with [`Bus::append_lane`], which stores the lane's position together with the records, and is then
//! deleted. After a crash the position tells which rows are on the bus already. Lanes go on independently of each other:
//! one that fails while others go on (the bus refuses its records, its next row cannot be read, its position is not told) is
//! parked, visibly, and tried again now and then, apart from the others, which it cannot hold up then.
//!
//! Where several processes relay, each takes a share of the lanes with [`Leases`]. That is for peace and speed only: a relay
//! whose lease was lost while it was paused finds the lane's position moved on, or is fenced by the bus, and sends nothing.
//!
//! Nothing is sent that a power cut could still take out of the store, since the batch that comes in its place would
//! then be taken for sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Notify;

use super::leases::Leases;
use super::{Backoff, PassError, Patience};
use crate::bus::{Bus, BusError, NewRecord};
use crate::store::{OutboxRow, Store, StoreError};
use crate::time::Timestamp;

/// Rows of one lane that are read at once.
const ROWS_MAX: usize = 16;
/// An append takes no more rows of a lane once it has this many bytes.
const APPEND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Rest after a pass that sent something: a pass costs a sync and a transaction of the store's only writer, which the
/// commits need as well. While the outbox is filled all the time, a pass takes what came in between together.
const PASS_PAUSE: Duration = Duration::from_millis(20);
/// How long a parked lane rests before it is tried again.
const PARKED: Duration = Duration::from_secs(30);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(5) };

/// How often it is looked whether a parked lane has rested for long enough.
const RETRY_LOOK: Duration = Duration::from_millis(100);

/// A lane that cannot be sent although others are. Its rows stay in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedLane {
    /// The lane.
    pub lane: String,
    /// The row that is refused, the ones behind it wait; 0 where the lane as such fails.
    pub seq: i64,
    /// What the bus or the store said.
    pub reason: String,
    /// When it failed first.
    pub since: Timestamp,
}

#[derive(Debug)]
struct Parked {
    lane: ParkedLane,
    failures: u32,
    retry_at: Instant,
}

/// What the relay has done since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayFigures {
    /// Records that were put on the bus.
    pub records: u64,
    /// Appends that took.
    pub appends: u64,
    /// Lanes that wait for a person.
    pub parked: Vec<ParkedLane>,
    /// Lanes that this process sends, where several share them.
    pub lanes: usize,
    /// Why nothing can be sent now, if that is so.
    pub error: Option<String>,
}

/// Moves the outbox to the bus.
pub struct Relay {
    store: Store,
    bus: Arc<dyn Bus>,
    wake: Arc<Notify>,
    /// Where other processes relay as well.
    leases: Option<Leases>,
    records: AtomicU64,
    appends: AtomicU64,
    parked: Mutex<BTreeMap<String, Parked>>,
    error: Mutex<Option<String>>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

impl Relay {
    /// A relay that looks at the outbox whenever `wake` is notified: after every commit that wrote to it. With `leases`,
    /// other processes may write and relay as well.
    pub fn new(store: Store, bus: Arc<dyn Bus>, wake: Arc<Notify>, leases: Option<Leases>) -> Arc<Self> {
        Arc::new(Self {
            store,
            bus,
            wake,
            leases,
            records: AtomicU64::new(0),
            appends: AtomicU64::new(0),
            parked: Mutex::default(),
            error: Mutex::new(Some("it has just started; wait a moment".to_owned())),
        })
    }

    /// Relays until the future is dropped, which is safe at any moment. Only one may run at a time in a process. Returns if
    /// another process took over the only relay's place.
    pub async fn run(&self) -> BusError {
        tokio::select! {
            error = self.send_all() => error,
            error = self.retry_parked() => error,
        }
    }

    /// Sends the lanes that are not parked.
    async fn send_all(&self) -> BusError {
        let mut lanes = Lanes::default();
        let mut failures = 0;
        let mut patience = if self.leases.is_some() { Patience::shared() } else { Patience::alone() };
        loop {
            match self.pass(&mut lanes).await {
                Ok(sent) => {
                    failures = 0;
                    *lock(&self.error) = None;
                    if sent {
                        patience.reset();
                        tokio::time::sleep(PASS_PAUSE).await;
                    } else if tokio::time::timeout(patience.pause(), self.wake.notified()).await.is_ok() {
                        patience.reset();
                    }
                }
                Err(PassError::Bus(error @ BusError::Fenced(_))) => return error,
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(%error, "the outbox cannot be sent; trying again");
                    }
                    *lock(&self.error) = Some(error.to_string());
                    tokio::time::sleep(BACKOFF.pause(failures)).await;
                }
            }
        }
    }

    /// True if everything that was committed to the outbox is on the bus, but for parked lanes.
    ///
    /// # Errors
    /// Faults of the store: it is not known.
    pub async fn is_idle(&self) -> Result<bool, StoreError> {
        let waiting = self.store.outbox_lanes().await?;
        let parked = lock(&self.parked);
        Ok(waiting.iter().all(|lane| parked.contains_key(lane)))
    }

    /// What it has done.
    #[must_use]
    pub fn figures(&self) -> RelayFigures {
        RelayFigures {
            records: self.records.load(Ordering::Relaxed),
            appends: self.appends.load(Ordering::Relaxed),
            parked: lock(&self.parked).values().map(|parked| parked.lane.clone()).collect(),
            lanes: self.leases.as_ref().map_or(0, Leases::held),
            error: lock(&self.error).clone(),
        }
    }

    /// Tries parked lanes that have rested for long enough, each by itself.
    async fn retry_parked(&self) -> BusError {
        loop {
            let rested: Vec<String> = {
                let parked = lock(&self.parked);
                let rested = parked.values().filter(|parked| parked.retry_at <= Instant::now());
                rested.map(|parked| parked.lane.lane.clone()).collect()
            };
            for (lane, tried) in join_all(rested.into_iter().map(|lane| self.retry(lane))).await {
                match tried {
                    Err(PassError::Bus(error @ BusError::Fenced(_))) => return error,
                    Err(error) => self.park_failing(&lane, &error),
                    Ok(_) => {}
                }
            }
            tokio::time::sleep(RETRY_LOOK).await;
        }
    }

    async fn retry(&self, lane: String) -> (String, Result<bool, PassError>) {
        let mut alone = Lanes::default();
        let tried = self.send_lanes(&mut alone, vec![lane.clone()]).await;
        (lane, tried)
    }

    /// Sends the next rows of every lane that is not parked. True if there were any.
    async fn pass(&self, lanes: &mut Lanes) -> Result<bool, PassError> {
        let mut waiting = self.store.outbox_lanes().await?;
        if let Some(leases) = &self.leases {
            waiting = leases.hold(&waiting).await?;
            // Whoever had a lane in between has moved its position.
            lanes.sent.retain(|lane, _| leases.holds(lane));
        }
        {
            let mut parked = lock(&self.parked);
            // One that is another relay's by now, or in which nothing waits, is nothing to look after here.
            parked.retain(|lane, _| waiting.contains(lane));
            waiting.retain(|lane| !parked.contains_key(lane));
        }
        lanes.failing.retain(|lane, _| waiting.contains(lane));
        self.send_lanes(lanes, waiting).await
    }

    /// Sends the next rows of these lanes. True if there were any. One that fails while others are sent is parked.
    async fn send_lanes(&self, lanes: &mut Lanes, waiting: Vec<String>) -> Result<bool, PassError> {
        if waiting.is_empty() {
            return Ok(false);
        }
        if lanes.store_identity.is_empty() {
            lanes.store_identity = self.store.identity().await?;
        }
        let mut failed = Vec::new();
        let waiting = self.find_positions(lanes, waiting, &mut failed).await;
        let reads = waiting.iter().map(|lane| self.next_rows(lane, lanes.sent[lane]));
        let mut batches = Vec::with_capacity(waiting.len());
        for (lane, read) in waiting.iter().zip(join_all(reads).await) {
            match read {
                Ok(batch) => batches.push((lane, batch)),
                Err(error @ StoreError::Refused(_)) => failed.push((lane.clone(), error.into())),
                // The store is away, for all of them.
                Err(error) => return Err(error.into()),
            }
        }
        if batches.iter().any(|(_, batch)| !batch.rows.is_empty()) {
            self.store.sync().await?;
        }
        let sends = batches.into_iter().map(|(lane, batch)| {
            let bus_lane = lanes.bus_lane(lane);
            async move { (lane.clone(), self.send(lane, bus_lane, batch).await) }
        });
        let mut done = Vec::new();
        for (lane, sent) in join_all(sends).await {
            // Where it failed, what was done is unknown: the bus will be asked.
            lanes.sent.remove(&lane);
            match sent {
                Ok(Some(position)) => {
                    lanes.failing.remove(&lane);
                    lanes.last_sent = Some(Instant::now());
                    done.push((lane.clone(), position));
                    lanes.sent.insert(lane, position);
                }
                Ok(None) => {}
                Err(error) => failed.push((lane, error)),
            }
        }
        let others_go_on = !done.is_empty();
        if others_go_on {
            self.store.outbox_delete(done).await?;
        }
        self.look_at_failed(lanes, failed, others_go_on)
    }

    /// Parks lanes that fail by themselves. Where nothing goes on, or somebody else is the only relay now, it is an error.
    fn look_at_failed(
        &self,
        lanes: &mut Lanes,
        failed: Vec<(String, PassError)>,
        others_go_on: bool,
    ) -> Result<bool, PassError> {
        let mut result = Ok(true);
        for (lane, error) in failed {
            let Some(error) = self.unless_taken_over(&lane, error) else { continue };
            let since = *lanes.failing.entry(lane.clone()).or_insert_with(Instant::now);
            let is_its_own = match &error {
                PassError::Bus(BusError::Fenced(_)) => false,
                PassError::Store(StoreError::Refused(_)) | PassError::Bus(BusError::Refused(_)) => true,
                // A bus that is away is away for all lanes. It is not if another one was sent since this one failed.
                _ => others_go_on || lanes.last_sent.is_some_and(|at| at > since),
            };
            if is_its_own {
                self.park_failing(&lane, &error);
            } else if !matches!(result, Err(PassError::Bus(BusError::Fenced(_)))) {
                result = Err(error);
            }
        }
        result
    }

    /// Asks the bus how far the lanes have come of which that is not known. Leaves out those that fail.
    async fn find_positions(
        &self,
        lanes: &mut Lanes,
        mut waiting: Vec<String>,
        failed: &mut Vec<(String, PassError)>,
    ) -> Vec<String> {
        let unknown = waiting.iter().filter(|lane| !lanes.sent.contains_key(*lane));
        let asked = unknown.map(|lane| {
            let position = self.bus.lane_position(lanes.bus_lane(lane));
            async move { (lane.clone(), position.await) }
        });
        for (lane, position) in join_all(asked).await {
            match position {
                Ok(position) => {
                    lanes.sent.insert(lane, position.unwrap_or(i64::MIN));
                }
                Err(error) => failed.push((lane, error.into())),
            }
        }
        waiting.retain(|lane| lanes.sent.contains_key(lane));
        waiting
    }

    /// The error, unless it only says that another relay sends this lane now.
    fn unless_taken_over(&self, lane: &str, error: PassError) -> Option<PassError> {
        match (&self.leases, error) {
            (Some(leases), PassError::Bus(BusError::Fenced(why))) => {
                tracing::info!(lane, why, "another relay sends this lane now");
                leases.lost(lane);
                lock(&self.parked).remove(lane);
                None
            }
            (_, error) => Some(error),
        }
    }

    async fn next_rows(&self, lane: &str, sent: i64) -> Result<Batch, StoreError> {
        let rows = self.store.outbox_after(lane, sent, ROWS_MAX).await?;
        let mut bytes = 0;
        let rows = rows
            .into_iter()
            .take_while(|row| {
                let fits = bytes < APPEND_BYTES_MAX;
                bytes += row.records.iter().map(|record| record.value.len()).sum::<usize>();
                fits
            })
            .collect();
        Ok(Batch { sent, rows })
    }

    /// Appends the rows. Returns the lane's position, up to which its rows may be deleted, or nothing if it was parked.
    async fn send(&self, lane: &str, bus_lane: String, batch: Batch) -> Result<Option<i64>, PassError> {
        let Some(last) = batch.rows.last().map(|row| row.seq) else {
            // They are on the bus, but a crash came before they were deleted.
            return Ok(Some(batch.sent));
        };
        let single = batch.rows.len() == 1;
        let first = batch.rows[0].clone();
        let records: Vec<_> = batch.rows.into_iter().flat_map(|row| row.records).collect();
        let position = match self.append(&bus_lane, last, records).await {
            Ok(()) => last,
            Err(BusError::Refused(reason)) if single => {
                self.park(lane, last, reason);
                return Ok(None);
            }
            // One of them is to blame; those before it go out one by one.
            Err(BusError::Refused(_)) => match self.append(&bus_lane, first.seq, first.records).await {
                Ok(()) => first.seq,
                Err(BusError::Refused(reason)) => {
                    self.park(lane, first.seq, reason);
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        if lock(&self.parked).remove(lane).is_some() {
            tracing::info!(lane, "a parked lane of the outbox goes on");
        }
        Ok(Some(position))
    }

    async fn append(&self, bus_lane: &str, position: i64, records: Vec<NewRecord>) -> Result<(), BusError> {
        let count = records.len() as u64;
        self.bus.append_lane(bus_lane.to_owned(), position, records).await?;
        self.records.fetch_add(count, Ordering::Relaxed);
        self.appends.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The bus refuses a row.
    fn park(&self, lane: &str, seq: i64, reason: String) {
        self.set_aside(lane, seq, reason, |_| PARKED);
    }

    /// A lane fails that may soon be better.
    fn park_failing(&self, lane: &str, error: &PassError) {
        self.set_aside(lane, 0, error.to_string(), |failures| {
            BACKOFF.pause(failures).max(BACKOFF.first).saturating_mul(failures).min(PARKED)
        });
    }

    fn set_aside(&self, lane: &str, seq: i64, reason: String, rest: impl Fn(u32) -> Duration) {
        let mut parked = lock(&self.parked);
        if let Some(known) = parked.get_mut(lane).filter(|known| known.lane.seq == seq) {
            known.failures = known.failures.saturating_add(1);
            known.retry_at = Instant::now() + rest(known.failures);
            known.lane.reason = reason;
            return;
        }
        tracing::error!(lane, seq, reason, "a lane of the outbox cannot be sent and waits; the others go on");
        let parked_lane = ParkedLane { lane: lane.to_owned(), seq, reason, since: Timestamp::now() };
        let new = Parked { lane: parked_lane, failures: 1, retry_at: Instant::now() + rest(1) };
        parked.insert(lane.to_owned(), new);
    }
}

/// What a run knows of the lanes.
#[derive(Debug, Default)]
struct Lanes {
    store_identity: String,
    /// The last row of each lane that is on the bus.
    sent: HashMap<String, i64>,
    /// Since when lanes fail that are not parked.
    failing: HashMap<String, Instant>,
    /// When a lane was sent last.
    last_sent: Option<Instant>,
}

impl Lanes {
    /// The lane's name on the bus. Rows are numbered by the store, so another store's numbers belong to another lane.
    fn bus_lane(&self, lane: &str) -> String {
        format!("{}/{lane}", self.store_identity)
    }
}

#[derive(Debug)]
struct Batch {
    /// The last row that is on the bus already.
    sent: i64,
    rows: Vec<OutboxRow>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
