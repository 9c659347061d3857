//! Puts one batch together: what goes to the plugins, and then everything that its commit must hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use rustc_hash::FxHashMap;
use serde_json::json;
use tokio::sync::oneshot;

use super::commit::{CommitReport, PreparedBatch, ShardFault};
use super::external::Inputs;
use crate::actors::entity::{EntityOutcome, Failure};
use crate::actors::plugin::PluginOutcome;
use crate::actors::sources::Standing;
use crate::actors::{BatchInput, Group};
use crate::bus::{NewRecord, Record, Topic, TopicPartition};
use crate::control::Snapshot;
use crate::effect::{Effect, LogLine};
use crate::event::{Event, Scope, stable_id};
use crate::feed::{FeedBody, FeedItem, FeedKind};
use crate::pipeline::Placed;
use crate::pipeline::source::to_own_partition;
use crate::status::{PluginFigures, PluginStatus};
use crate::store::model::{
    Commit, DeadLetter, DeadLetterStatus, EntityKey, OutboxRow, PartitionCommit, PartitionRow, WindowRow,
};
use crate::time::Timestamp;

/// One batch on its way through the shard.
pub(super) struct Assembly {
    pub(super) settings: Arc<Snapshot>,
    pub(super) events: Vec<Placed>,
    pub(super) groups: Vec<Group>,
    pub(super) clocks: Vec<(TopicPartition, Timestamp)>,
    pub(super) changed: Vec<TopicPartition>,
    pub(super) windows: Vec<WindowRow>,
    pub(super) shown: Vec<Arc<Event>>,
    pub(super) chunks: Vec<NewRecord>,
    /// What plugins have published, with the partition on which it stands, for plugins in other languages.
    pub(super) published: Vec<(TopicPartition, Placed)>,
    pub(super) report: CommitReport,
    counted: Vec<(Arc<PluginStatus>, PluginFigures)>,
    commit: Commit,
    outbox: BTreeMap<TopicPartition, Vec<NewRecord>>,
    feed: Vec<FeedItem>,
    log: Vec<LogLine>,
    now: Timestamp,
    /// What each entity adds to the commit, if the store is to be asked about each.
    shares: Option<Vec<(EntityKey, Commit)>>,
}

impl Assembly {
    pub(super) fn new(batch: u64, settings: Arc<Snapshot>) -> Self {
        Self {
            commit: Commit { settings_epoch: settings.epoch(), ..Commit::default() },
            settings,
            events: Vec::new(),
            groups: Vec::new(),
            clocks: Vec::new(),
            changed: Vec::new(),
            windows: Vec::new(),
            shown: Vec::new(),
            chunks: Vec::new(),
            published: Vec::new(),
            report: CommitReport { batch, ..CommitReport::default() },
            counted: Vec::new(),
            outbox: BTreeMap::new(),
            feed: Vec::new(),
            log: Vec::new(),
            now: Timestamp::now(),
            shares: None,
        }
    }

    /// Whether to keep what each entity adds to the commit, besides the commit itself.
    pub(super) fn keep_shares(&mut self, kept: bool) {
        self.shares = kept.then(Vec::new);
    }

    /// What each entity adds to the commit, if it was to be kept.
    pub(super) fn shares(&self) -> &[(EntityKey, Commit)] {
        self.shares.as_deref().unwrap_or_default()
    }

    /// Adds an event that groups refer to.
    pub(super) fn push_event(&mut self, placed: Placed) -> u32 {
        self.events.push(placed);
        u32::try_from(self.events.len() - 1).expect("batches are bounded")
    }

    /// Adds an event to the group of one entity.
    pub(super) fn group(
        &mut self,
        known: &mut FxHashMap<CompactString, usize>,
        partition: TopicPartition,
        scope: Scope,
        entity: CompactString,
        index: u32,
    ) {
        if let Some(&group) = known.get(&entity) {
            self.groups[group].events.push(index);
            return;
        }
        known.insert(entity.clone(), self.groups.len());
        self.groups.push(Group { partition, scope, entity, events: vec![index] });
    }

    /// Adds an event for one entity.
    pub(super) fn place(
        &mut self,
        known: &mut FxHashMap<CompactString, usize>,
        partition: TopicPartition,
        scope: Scope,
        entity: CompactString,
        placed: Placed,
    ) {
        let index = self.push_event(placed);
        self.group(known, partition, scope, entity, index);
    }

    /// Adds what became of a partition's messages besides events for plugins.
    pub(super) fn add_source(
        &mut self,
        dead_letters: Vec<DeadLetter>,
        replayed: Vec<String>,
        misplaced: Vec<NewRecord>,
        place: TopicPartition,
    ) {
        for dead_letter in dead_letters {
            self.add_dead_letter(place, dead_letter);
        }
        self.commit.dead_letters_replayed.extend(replayed);
        if !misplaced.is_empty() {
            self.outbox.entry(place).or_default().extend(misplaced);
        }
    }

    /// What could not be processed, told from this partition.
    pub(super) fn add_letter(&mut self, place: TopicPartition, letter: DeadLetter) {
        self.add_dead_letter(place, letter);
    }

    /// A chunk that does not decode: the events in it are on `pos.events`, but their place here is lost.
    pub(super) fn add_unreadable_chunk(&mut self, place: TopicPartition, record: &Record, message: &str) {
        let fault = ("unreadable_chunk", None, message.to_owned());
        self.add_dead_letter(place, DeadLetter::of_record(place, record, Timestamp::MIN, fault));
    }

    fn add_dead_letter(&mut self, place: TopicPartition, dead_letter: DeadLetter) {
        let copy = dead_letter.copy();
        self.outbox.entry(place).or_default().push(copy);
        self.feed.push(dead_letter_item(&dead_letter, self.now));
        self.report.dead_letters += 1;
        self.commit.dead_letters.push(dead_letter);
    }

    /// Adds what a plugin decided.
    pub(super) fn add_plugin(&mut self, input: &BatchInput, outcome: PluginOutcome) {
        self.counted.push(outcome.counted);
        for (key, entity) in outcome.entities {
            if let Some(shares) = &mut self.shares {
                shares.push((key.clone(), share(&key, &entity, self.commit.settings_epoch)));
            }
            self.commit.entities.extend(entity.row);
            self.commit.dead_letters_replayed.extend(entity.replayed);
            for effect in entity.effects {
                self.add_effect(key.partition, effect);
            }
        }
        for (key, failure) in outcome.failures {
            self.add_failure(input, &key, failure);
        }
    }

    /// Adds what plugins in other languages get.
    pub(super) fn add_inputs(&mut self, inputs: Inputs) {
        self.counted.extend(inputs.counted);
        for (place, record) in inputs.records {
            self.outbox.entry(place).or_default().push(record);
        }
    }

    fn add_effect(&mut self, place: TopicPartition, effect: Effect) {
        match effect {
            Effect::Publish(event) => {
                self.outbox.entry(place).or_default().push(to_own_partition(&event));
                self.report.derived += 1;
                let body = FeedBody::Event(Arc::new(*event));
                self.feed.push(FeedItem { kind: FeedKind::Derived, at: self.now, body });
            }
            Effect::Record(record) => self.commit.records.push(record),
            Effect::Http(call) => self.commit.http.push(call),
            Effect::Log(line) => {
                self.log.push(line.clone());
                let json = serde_json::to_vec(&line).expect("a log line is plain text");
                let body = FeedBody::Json {
                    type_name: CompactString::const_new("log"),
                    terminal: line.terminal.map(CompactString::from),
                    plugin: Some(CompactString::from(line.plugin)),
                    json: Bytes::from(json),
                };
                self.feed.push(FeedItem { kind: FeedKind::Log, at: self.now, body });
            }
            // Moved to the plugin's figures by its actor.
            Effect::ConditionFailed(_) => {}
        }
    }

    fn add_failure(&mut self, input: &BatchInput, key: &EntityKey, failure: Failure) {
        let entity = format!("{}:{}", key.scope.as_str(), key.entity);
        let reason = match (failure.is_refused, failure.event) {
            (_, None) => "timer_failed",
            (true, Some(_)) => "store_refused",
            (false, Some(_)) => "plugin_failed",
        };
        tracing::error!(plugin = key.plugin, entity, reason, failure.message, "the event is a dead letter");
        let placed = failure.event.map(|index| &input.events[index as usize]);
        let place =
            placed.map_or(key.partition, |placed| TopicPartition::new(Topic::Events, placed.position.partition));
        let offset = placed.map_or(-1, |placed| placed.position.offset);
        let due = failure.due.map(|due| due.to_string()).unwrap_or_default();
        let place_text = if placed.is_some() { place.to_string() } else { due.clone() };
        let dead_letter = DeadLetter {
            id: stable_id(&["dead_letter", &place_text, &offset.to_string(), key.plugin, &entity]),
            at: self.now,
            status: DeadLetterStatus::Open,
            reason: reason.to_owned(),
            field: None,
            message: failure.message,
            plugin: Some(key.plugin.to_owned()),
            entity: Some(entity),
            partition: place,
            offset,
            clock: placed.map_or(Timestamp::MIN, |placed| placed.clock),
            key: placed.map(|placed| Bytes::copy_from_slice(placed.event.key().as_bytes())),
            headers: Vec::new(),
            bytes: placed.map_or_else(|| Bytes::from(due), |placed| placed.event.raw.clone()),
            attempts: 1,
        };
        self.add_dead_letter(key.partition, dead_letter);
    }

    /// True if something of this partition waits to go to the bus.
    pub(super) fn has_outbox(&self, place: TopicPartition) -> bool {
        self.outbox.contains_key(&place)
    }

    /// The partition's new place, with what it puts on the bus.
    pub(super) fn add_partition(&mut self, row: PartitionRow) {
        if let Some(records) = self.outbox.remove(&row.partition) {
            let lane = row.partition.to_string();
            self.commit.outbox.push(OutboxRow { lane, seq: row.version + 1, records });
        }
        self.commit.partitions.push(PartitionCommit { row });
    }

    /// The batch as it goes to be committed.
    pub(super) fn finish(
        mut self,
        standings: Vec<Standing>,
        done: oneshot::Sender<Result<CommitReport, ShardFault>>,
    ) -> PreparedBatch {
        debug_assert!(self.outbox.is_empty(), "every outbox belongs to a partition that this batch moved");
        self.commit.windows = self.windows;
        self.report.states = self.commit.entities.len();
        let events = self.shown.into_iter().map(|event| FeedItem {
            kind: FeedKind::Event,
            at: self.now,
            body: FeedBody::Event(event),
        });
        let feed = events.chain(self.feed).collect();
        PreparedBatch {
            chunks: self.chunks,
            commit: self.commit,
            feed,
            log: self.log,
            report: self.report,
            counted: self.counted,
            standings,
            done,
        }
    }
}

/// What one entity adds to the commit, as a commit of its own.
fn share(key: &EntityKey, entity: &EntityOutcome, settings_epoch: i64) -> Commit {
    let mut commit = Commit { settings_epoch, entities: entity.row.iter().cloned().collect(), ..Commit::default() };
    let mut records = Vec::new();
    for effect in &entity.effects {
        match effect {
            Effect::Publish(event) => records.push(to_own_partition(event)),
            Effect::Record(record) => commit.records.push(record.clone()),
            Effect::Http(call) => commit.http.push(call.clone()),
            Effect::Log(_) | Effect::ConditionFailed(_) => {}
        }
    }
    if !records.is_empty() {
        // Never sent: the commit is only tried.
        commit.outbox.push(OutboxRow { lane: key.partition.to_string(), seq: i64::MAX, records });
    }
    commit
}

fn dead_letter_item(dead_letter: &DeadLetter, at: Timestamp) -> FeedItem {
    let json = json!({
        "id": dead_letter.id,
        "reason": dead_letter.reason,
        "field": dead_letter.field,
        "message": dead_letter.message,
        "plugin": dead_letter.plugin,
        "topic": dead_letter.partition.topic.name(),
        "partition": dead_letter.partition.partition,
        "offset": dead_letter.offset,
        "bytes": dead_letter.bytes.len(),
    });
    let body = FeedBody::Json {
        type_name: CompactString::const_new("deadletter"),
        terminal: dead_letter.key.as_ref().and_then(|key| std::str::from_utf8(key).ok()).map(CompactString::new),
        plugin: dead_letter.plugin.as_deref().map(CompactString::new),
        json: Bytes::from(json.to_string()),
    };
    FeedItem { kind: FeedKind::DeadLetter, at, body }
}
