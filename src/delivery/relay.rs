//! The relay: outbox -> bus, lane by lane in order, each row once.
//!
//! A row is sent with [`Bus::append_lane`], which stores the lane's position together with the records, and is then
//! deleted. After a crash the position tells which rows are on the bus already. Lanes go on independently of each other:
//! one whose records the bus refuses is parked, visibly, and tried again now and then.
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

/// A lane whose next row the bus refuses. Its rows stay in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedLane {
    /// The lane.
    pub lane: String,
    /// The row that is refused; the ones behind it wait.
    pub seq: i64,
    /// What the bus said.
    pub reason: String,
    /// When it was refused first.
    pub since: Timestamp,
}

#[derive(Debug)]
struct Parked {
    lane: ParkedLane,
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

    /// Sends the next rows of every lane. True if there were any.
    async fn pass(&self, lanes: &mut Lanes) -> Result<bool, PassError> {
        let mut waiting = self.store.outbox_lanes().await?;
        {
            let parked = lock(&self.parked);
            waiting.retain(|lane| parked.get(lane).is_none_or(|parked| parked.retry_at <= Instant::now()));
        }
        if let Some(leases) = &self.leases {
            waiting = leases.hold(&waiting).await?;
            // Whoever had a lane in between has moved its position.
            lanes.sent.retain(|lane, _| leases.holds(lane));
        }
        if waiting.is_empty() {
            return Ok(false);
        }
        if lanes.store_identity.is_empty() {
            lanes.store_identity = self.store.identity().await?;
        }
        let waiting = self.find_positions(lanes, waiting).await?;
        let reads = waiting.iter().map(|lane| self.next_rows(lane, lanes.sent[lane]));
        let batches = join_all(reads).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        if batches.iter().any(|batch| !batch.rows.is_empty()) {
            self.store.sync().await?;
        }
        let sends = waiting.iter().zip(batches).map(|(lane, batch)| {
            let bus_lane = lanes.bus_lane(lane);
            async move { (lane.clone(), self.send(lane, bus_lane, batch).await) }
        });
        let mut result = Ok(true);
        let mut done = Vec::new();
        for (lane, sent) in join_all(sends).await {
            // Where it failed, what was done is unknown: the bus will be asked.
            lanes.sent.remove(&lane);
            match sent {
                Ok(Some(position)) => {
                    done.push((lane.clone(), position));
                    lanes.sent.insert(lane, position);
                }
                Ok(None) => {}
                Err(error) => {
                    if let Some(error) = self.unless_taken_over(&lane, error) {
                        result = Err(error);
                    }
                }
            }
        }
        if !done.is_empty() {
            self.store.outbox_delete(done).await?;
        }
        result
    }

    /// Asks the bus how far the lanes have come of which that is not known. Leaves out those that were taken over.
    async fn find_positions(&self, lanes: &mut Lanes, mut waiting: Vec<String>) -> Result<Vec<String>, PassError> {
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
                Err(error) => {
                    if let Some(error) = self.unless_taken_over(&lane, error.into()) {
                        return Err(error);
                    }
                }
            }
        }
        waiting.retain(|lane| lanes.sent.contains_key(lane));
        Ok(waiting)
    }

    /// The error, unless it only says that another relay sends this lane now.
    fn unless_taken_over(&self, lane: &str, error: PassError) -> Option<PassError> {
        match (&self.leases, error) {
            (Some(leases), PassError::Bus(BusError::Fenced(why))) => {
                tracing::info!(lane, why, "another relay sends this lane now");
                leases.lost(lane);
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

    fn park(&self, lane: &str, seq: i64, reason: String) {
        let mut parked = lock(&self.parked);
        let retry_at = Instant::now() + PARKED;
        if let Some(known) = parked.get_mut(lane).filter(|known| known.lane.seq == seq) {
            known.retry_at = retry_at;
            return;
        }
        tracing::error!(lane, seq, reason, "the bus refuses a row of the outbox; its lane waits, others go on");
        let parked_lane = ParkedLane { lane: lane.to_owned(), seq, reason, since: Timestamp::now() };
        parked.insert(lane.to_owned(), Parked { lane: parked_lane, retry_at });
    }
}

/// What a run knows of the lanes.
#[derive(Debug, Default)]
struct Lanes {
    store_identity: String,
    /// The last row of each lane that is on the bus.
    sent: HashMap<String, i64>,
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
