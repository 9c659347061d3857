//! What `/api/system` shows.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::event::Source;
use crate::processes::{ActorInfo, ClockInfo, ParkedInfo, ParkedPart, Process, TotalsInfo};
use crate::store::{Counts, LaneBacklog};
use crate::time::Timestamp;

/// What all processes are and do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct System {
    /// Tillstream's version.
    pub(super) version: &'static str,
    /// The process that answers.
    pub(super) process: String,
    /// What it takes on.
    pub(super) roles: Vec<&'static str>,
    /// Since it started.
    pub(super) uptime_seconds: u64,
    /// The bus.
    pub(super) bus: Kind,
    /// The store.
    pub(super) store: Kind,
    /// All partitions that were ever taken.
    pub(super) partitions: Vec<Partition>,
    /// All processes that share bus and store: this one first, then the others, the oldest first.
    pub(super) processes: Vec<ProcessView>,
    /// Long-lived actors of living processes.
    pub(super) actors: Vec<Actor>,
    /// Sums since the living processes started.
    pub(super) totals: TotalsInfo,
    /// What waits for delivery, and how it fares.
    pub(super) delivery: Delivery,
    /// The live feed.
    pub(super) feed: FeedView,
    /// Resident memory of the process that answers; null where the system does not tell.
    pub(super) rss_bytes: Option<u64>,
    /// Tills whose clocks are wrong: what they send counts as the bus saw it, until somebody sets them right.
    pub(super) clocks: Vec<TillClock>,
    /// Parts that cannot work now, with the reason.
    pub(super) unready: Vec<Unready>,
    /// What is set aside so that the others go on: rows that cannot be read, partitions and tables that fail. Lanes of the outbox
    /// are in `delivery.parked`.
    pub(super) parked: Vec<Parked>,
}

/// Which implementation it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Kind {
    /// `embedded`, `kafka`, `sqlite` or `mysql`.
    pub(super) kind: &'static str,
}

/// One partition.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the API's name")]
pub(super) struct Partition {
    /// `pos.events` or `pos.events.rekeyed`.
    pub(super) topic: &'static str,
    /// Its number.
    pub(super) partition: u32,
    /// Who applies it, such as `shard-0`, where several processes share the work `till-server-812-3fa9/shard-0`; null while
    /// nobody does.
    pub(super) owner: Option<String>,
    /// The process that owns it.
    pub(super) process: Option<String>,
    /// First offset that is not committed.
    pub(super) next_offset: i64,
    /// One past the last offset on the bus.
    pub(super) end_offset: i64,
    /// Records that are not committed.
    pub(super) lag: i64,
    /// The partition's clock; null before the first event.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) clock: Option<Timestamp>,
    /// True if decisions across tills wait for this partition.
    pub(super) holds_clock: bool,
}

/// One process.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProcessView {
    /// Another one for every start.
    id: String,
    /// True of the process that answers.
    is_this: bool,
    /// `alive`, or `gone` if it was not heard of for 10 s.
    state: &'static str,
    /// The machine.
    host: String,
    /// Process id there.
    pid: u32,
    /// Tillstream's version.
    version: String,
    /// What it takes on.
    roles: Vec<String>,
    /// Where its HTTP server listens.
    address: Option<String>,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When it was heard of last.
    #[schema(value_type = String, format = DateTime)]
    heartbeat_at: Timestamp,
    /// Partitions of `pos.events` that it owns.
    partitions: Vec<u32>,
    /// Records of its partitions that are not committed.
    lag: i64,
    /// Lanes of the outbox that its relay sends, where several relays share them.
    relay_lanes: Option<usize>,
    /// Resident memory in bytes.
    rss_bytes: Option<u64>,
    /// Events that it applied since it started.
    events: u64,
    /// True if no part of it says that it cannot work.
    is_ready: bool,
}

/// A till whose clock is wrong.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TillClock {
    /// Its store.
    store_id: String,
    /// The terminal.
    terminal_id: String,
    /// By how much its last event was ahead of the bus, or, below 0, behind the clock of its partition (then the till may
    /// have been offline as well).
    drift_seconds: i64,
}

/// One long-lived actor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Actor {
    /// Its name.
    name: String,
    /// Its process, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<String>,
    /// How often it was started again.
    restarts: u64,
    /// Why, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// The live feed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FeedView {
    /// Another one for every start of the process.
    pub(super) feed_id: String,
    /// Who reads along.
    pub(super) clients: usize,
    /// First `seq` that is still there.
    pub(super) oldest: u64,
    /// Last `seq`.
    pub(super) newest: u64,
}

/// A part that cannot work now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Unready {
    /// Which.
    part: String,
    /// Its process, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<String>,
    /// Why, and what to do.
    message: String,
}

/// Something that is set aside so that the others go on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ParkedItem)]
pub(super) struct Parked {
    /// The part that set it aside.
    part: String,
    /// What it is: the id of a row, a partition, a table.
    name: String,
    /// Its process, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<String>,
    /// Why.
    reason: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

impl Parked {
    pub(super) fn new(item: &ParkedPart, process: Option<String>) -> Self {
        let ParkedPart { part, name, reason, since } = item.clone();
        Self { part, name, process, reason, since }
    }
}

/// What waits for delivery, and how it fares. Null where the store does not tell now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delivery {
    /// Records that wait to be put on the bus.
    outbox_records: Option<i64>,
    /// For how long, at least, the oldest of them has waited.
    outbox_oldest_seconds: Option<u64>,
    /// Lanes in which something waits, with how many records.
    lanes: BTreeMap<String, i64>,
    /// Lanes that cannot be sent although others are: a person must act.
    parked: Vec<ParkedInfo>,
    /// Records that relays have put on the bus since they started.
    relayed_records: u64,
    /// HTTP calls that wait or are at work.
    http_calls: Option<i64>,
    /// Calls that got an answer since the dispatchers started.
    answered: u64,
    /// Calls that came to nothing.
    failed: u64,
    /// Attempts that failed and were followed by another.
    retried: u64,
    /// Answers that were used again.
    cached: u64,
    /// Breaker of each remote system, the worst of all dispatchers: `closed`, `half_open` or `open`.
    breakers: BTreeMap<String, String>,
}

impl ProcessView {
    pub(super) fn new(process: &Process, is_this: bool, is_ready: bool, partitions: &[Partition]) -> Self {
        let owned = || partitions.iter().filter(|one| one.process.as_deref() == Some(process.id.as_str()));
        let info = &process.info;
        Self {
            id: process.id.clone(),
            is_this,
            state: if process.is_alive { "alive" } else { "gone" },
            host: info.host.clone(),
            pid: info.pid,
            version: info.version.clone(),
            roles: info.roles.clone(),
            address: info.address.clone(),
            started_at: process.started_at,
            heartbeat_at: process.heartbeat_at,
            partitions: owned().filter(|one| one.topic == "pos.events").map(|one| one.partition).collect(),
            lag: owned().map(|one| one.lag).sum(),
            relay_lanes: info.relay.as_ref().map(|relay| relay.lanes),
            rss_bytes: info.rss_bytes,
            events: info.totals.events,
            is_ready,
        }
    }
}

impl TillClock {
    /// `None` for what is no till.
    pub(super) fn new(clock: &ClockInfo) -> Option<Self> {
        let source = Source::new(&clock.source).ok()?;
        Some(Self {
            store_id: source.store_id()?.to_owned(),
            terminal_id: source.terminal_id()?.to_owned(),
            drift_seconds: clock.drift_seconds,
        })
    }
}

impl Actor {
    pub(super) fn new(actor: &ActorInfo, process: Option<String>) -> Self {
        let ActorInfo { name, restarts, last_error } = actor.clone();
        Self { name, process, restarts, last_error }
    }
}

impl Unready {
    pub(super) fn new(part: &str, message: &str, process: Option<String>) -> Self {
        Self { part: part.to_owned(), process, message: message.to_owned() }
    }
}

impl Delivery {
    pub(super) fn new(
        processes: &[Process],
        backlog: Option<&[LaneBacklog]>,
        oldest: Option<Duration>,
        counts: Option<Counts>,
    ) -> Self {
        let alive = || processes.iter().filter(|process| process.is_alive).map(|process| &process.info);
        let relays = || alive().filter_map(|info| info.relay.as_ref());
        let dispatchers = || alive().filter_map(|info| info.dispatcher.as_ref());
        let mut breakers: BTreeMap<String, String> = BTreeMap::new();
        for (name, state) in dispatchers().flat_map(|dispatcher| &dispatcher.breakers) {
            let worst = breakers.entry(name.clone()).or_insert_with(|| state.clone());
            // By chance the alphabet ranks them: closed, half_open, open.
            if state > worst {
                worst.clone_from(state);
            }
        }
        Self {
            outbox_records: backlog.map(|lanes| lanes.iter().map(|lane| lane.records).sum()),
            outbox_oldest_seconds: oldest.map(|age| age.as_secs()),
            lanes: backlog.unwrap_or_default().iter().map(|lane| (lane.lane.clone(), lane.records)).collect(),
            parked: relays().flat_map(|relay| relay.parked.clone()).collect(),
            relayed_records: relays().map(|relay| relay.records).sum(),
            http_calls: counts.map(|counts| counts.http_calls),
            answered: dispatchers().map(|one| one.answered).sum(),
            failed: dispatchers().map(|one| one.failed).sum(),
            retried: dispatchers().map(|one| one.retried).sum(),
            cached: dispatchers().map(|one| one.cached).sum(),
            breakers,
        }
    }
}
