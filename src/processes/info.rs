//! What a process says of itself to the others. Read by other versions as well: fields are only added.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bus::{Topic, TopicPartition};
use crate::config::Role;
use crate::delivery::Delivery;
use crate::delivery::dispatcher::DispatcherFigures;
use crate::delivery::relay::RelayFigures;
use crate::status::{ParkedItem, PluginFigures, Status, Totals, rss_bytes};
use crate::time::Timestamp;

/// What a process says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProcessInfo {
    /// The machine.
    pub host: String,
    /// Process id there.
    pub pid: u32,
    /// Tillstream's version.
    pub version: String,
    /// What it takes on.
    pub roles: Vec<String>,
    /// Where its HTTP server listens.
    pub address: Option<String>,
    /// Resident memory in bytes.
    pub rss_bytes: Option<u64>,
    /// Partitions that it owns.
    pub partitions: Vec<PartitionInfo>,
    /// Sums since it started.
    pub totals: TotalsInfo,
    /// What plugins have done in it since it started.
    pub plugins: BTreeMap<String, PluginFigures>,
    /// Its long-lived actors.
    pub actors: Vec<ActorInfo>,
    /// Tills of its partitions whose clocks are wrong.
    pub clocks: Vec<ClockInfo>,
    /// Parts that cannot work now.
    pub unready: Vec<PartInfo>,
    /// What is set aside so that the others go on.
    pub parked: Vec<ParkedPart>,
    /// Its relay, with that role.
    pub relay: Option<RelayInfo>,
    /// Its dispatcher, with that role.
    pub dispatcher: Option<DispatcherInfo>,
}

/// A partition and how far its owner has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PartitionInfo {
    /// The topic.
    pub topic: String,
    /// Its number.
    pub partition: u32,
    /// Raised each time somebody takes the partition: the highest is the owner.
    pub epoch: i64,
    /// The shard that has it.
    pub shard: i64,
    /// First offset that is not committed.
    pub next_offset: i64,
    /// One past the last offset, as last seen.
    pub end_offset: i64,
    /// The clock in milliseconds since 1970.
    pub clock: i64,
}

/// Sums since a process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = Totals)]
pub struct TotalsInfo {
    /// Distinct valid events from terminals.
    pub events: u64,
    /// Duplicates that were dropped.
    pub duplicates: u64,
    /// Jumps in a terminal's sequence.
    pub gaps: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Events that plugins published.
    pub derived: u64,
    /// Transactions.
    pub commits: u64,
}

/// A long-lived actor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ActorInfo {
    /// Its name.
    pub name: String,
    /// How often it was started again.
    pub restarts: u64,
    /// Why, the last time.
    pub last_error: Option<String>,
}

/// A till whose clock is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClockInfo {
    /// Its whole source.
    pub source: String,
    /// By how much its clock is ahead, or below 0 behind.
    pub drift_seconds: i64,
}

/// A part that cannot work now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PartInfo {
    /// Which.
    pub part: String,
    /// Why, and what to do.
    pub message: String,
}

/// Most items that a process tells the others of.
const PARKED_TOLD_MAX: usize = 100;

/// Something that is set aside so that the others go on: a row that cannot be read, a partition that cannot be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParkedPart {
    /// The part that set it aside.
    pub part: String,
    /// What it is.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

impl From<ParkedItem> for ParkedPart {
    fn from(item: ParkedItem) -> Self {
        Self { part: item.part.to_owned(), name: item.name, reason: item.reason, since: item.since }
    }
}

/// A lane that cannot be sent although others are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = ParkedLane)]
pub struct ParkedInfo {
    /// The lane.
    pub lane: String,
    /// The row that is refused; 0 where the lane as such fails.
    pub seq: i64,
    /// What the bus or the store said.
    pub reason: String,
    /// When it failed first.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// What a relay has done since its process started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RelayInfo {
    /// Records that were put on the bus.
    pub records: u64,
    /// Lanes that it sends, where several relays share them.
    pub lanes: usize,
    /// Lanes that wait for a person.
    pub parked: Vec<ParkedInfo>,
    /// Why nothing can be sent now.
    pub error: Option<String>,
}

/// What a dispatcher has done since its process started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DispatcherInfo {
    /// Calls that got an answer.
    pub answered: u64,
    /// Calls that came to nothing.
    pub failed: u64,
    /// Attempts that failed and were followed by another.
    pub retried: u64,
    /// Answers that were used again.
    pub cached: u64,
    /// Breaker of each remote system: `closed`, `open` or `half_open`.
    pub breakers: BTreeMap<String, String>,
    /// Why no call can be made now.
    pub error: Option<String>,
}

impl ProcessInfo {
    /// What this process has to say now.
    #[must_use]
    pub fn collect(host: &str, address: Option<SocketAddr>, status: &Status, delivery: &Delivery) -> Self {
        let partition =
            |(place, figures): (TopicPartition, std::sync::Arc<crate::status::PartitionStatus>)| PartitionInfo {
                topic: place.topic.name().to_owned(),
                partition: place.partition,
                epoch: figures.epoch.get(),
                shard: figures.shard.get(),
                next_offset: figures.next_offset.get(),
                end_offset: figures.end_offset.get(),
                clock: figures.clock.get(),
            };
        let actors = status.actors().into_iter().map(|(name, actor)| ActorInfo {
            name,
            restarts: actor.restarts.get(),
            last_error: actor.last_error(),
        });
        let clocks = status.clocks().into_iter().map(|(source, ms)| ClockInfo { source, drift_seconds: ms / 1000 });
        let relay = delivery.relay.as_ref().map(|relay| RelayInfo::of(relay.figures()));
        let dispatcher = delivery.dispatcher.as_ref().map(|dispatcher| DispatcherInfo::of(dispatcher.figures()));
        let part = |part: &str, message| PartInfo { part: part.to_owned(), message };
        let mut unready: Vec<_> = status.unready().into_iter().map(|(name, message)| part(name, message)).collect();
        let error = relay.as_ref().and_then(|relay| relay.error.clone());
        unready.extend(error.map(|error| part("relay", error)));
        let error = dispatcher.as_ref().and_then(|dispatcher| dispatcher.error.clone());
        unready.extend(error.map(|error| part("dispatcher", error)));
        Self {
            host: host.to_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: status.roles().iter().map(|role| role.as_str().to_owned()).collect(),
            address: address.map(|address| format!("http://{address}")),
            rss_bytes: rss_bytes(),
            partitions: status.partitions().into_iter().map(partition).collect(),
            totals: TotalsInfo::of(&status.totals),
            plugins: status.plugins().into_iter().map(|(name, figures)| (name, PluginFigures::of(&figures))).collect(),
            actors: actors.collect(),
            clocks: clocks.collect(),
            unready,
            parked: parked_items(status, delivery).into_iter().take(PARKED_TOLD_MAX).map(ParkedPart::from).collect(),
            relay,
            dispatcher,
        }
    }

    /// True if the process has this role.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.iter().any(|name| name == role.as_str())
    }
}

/// What this process has set aside, but for lanes of the outbox.
#[must_use]
pub fn parked_items(status: &Status, delivery: &Delivery) -> Vec<ParkedItem> {
    let calls = delivery.dispatcher.as_ref().map(|dispatcher| dispatcher.figures().parked);
    status.parked.list().into_iter().chain(calls.into_iter().flatten()).collect()
}

impl PartitionInfo {
    /// Which partition it is; `None` for a topic that this version does not know.
    #[must_use]
    pub fn place(&self) -> Option<TopicPartition> {
        Some(TopicPartition::new(Topic::from_name(&self.topic)?, self.partition))
    }
}

impl TotalsInfo {
    fn of(totals: &Totals) -> Self {
        Self {
            events: totals.events.get(),
            duplicates: totals.duplicates.get(),
            gaps: totals.gaps.get(),
            dead_letters: totals.dead_letters.get(),
            derived: totals.derived.get(),
            commits: totals.commits.get(),
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            duplicates: self.duplicates + other.duplicates,
            gaps: self.gaps + other.gaps,
            dead_letters: self.dead_letters + other.dead_letters,
            derived: self.derived + other.derived,
            commits: self.commits + other.commits,
        }
    }
}

impl RelayInfo {
    fn of(figures: RelayFigures) -> Self {
        let parked = figures.parked.into_iter().map(|parked| ParkedInfo {
            lane: parked.lane,
            seq: parked.seq,
            reason: parked.reason,
            since: parked.since,
        });
        Self { records: figures.records, lanes: figures.lanes, parked: parked.collect(), error: figures.error }
    }
}

impl DispatcherInfo {
    fn of(figures: DispatcherFigures) -> Self {
        let breakers = figures.breakers.into_iter().map(|(host, state)| (host.to_owned(), state.to_owned()));
        Self {
            answered: figures.answered,
            failed: figures.failed,
            retried: figures.retried,
            cached: figures.cached,
            breakers: breakers.collect(),
            error: figures.error,
        }
    }
}
