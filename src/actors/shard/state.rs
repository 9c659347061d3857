//! What a shard holds: its partitions, its plugins, and the way of a batch through them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, Recipient};
use compact_str::CompactString;
use futures_util::future::join_all;
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};

use super::assemble::Assembly;
use super::commit::{self, PreparedBatch, ShardFault, chunk_record};
use super::{Applied, ShardContext, Take, external, refused, resolve};
use crate::actors::BatchInput;
use crate::actors::panics;
use crate::actors::plugin::{PluginActor, PluginBatch};
use crate::actors::quarantine::{Place, Quarantine, Withheld};
use crate::actors::sources::Standing;
use crate::bus::{Fetched, Record, Topic, TopicPartition};
use crate::event::{Event, Scope};
use crate::pipeline::chunk::Chunk;
use crate::pipeline::merge::MergeBuffer;
use crate::pipeline::source::{ParsedRecord, SourceOutcome, SourcePartition, parse};
use crate::pipeline::{REKEYED_SCOPES, entity_partition};
use crate::plugins::{Plugin, PluginVisitor, visit_all};
use crate::store::model::PartitionRow;
use crate::time::Timestamp;

/// Duplicate windows kept in memory for each partition; each is up to 9 KB, twice that for a till that was installed anew.
const WINDOWS_MAX: usize = 2000;
/// Rekeyed partitions learn the clock at least this often while it moves.
const CLOCK_CHUNK_INTERVAL: Duration = Duration::from_millis(100);

/// A partition in this shard's hands.
pub(super) struct Owned {
    pub(super) row: PartitionRow,
    pub(super) lane: Lane,
}

/// What is known of a partition in memory.
pub(super) enum Lane {
    Source(SourcePartition),
    Merge(MergeBuffer<Arc<Event>>),
}

/// What a shard holds.
pub(super) struct ShardState {
    context: ShardContext,
    index: usize,
    partitions: FxHashMap<TopicPartition, Owned>,
    quarantine: Quarantine,
    plugins: Vec<Recipient<PluginBatch>>,
    committer: Option<mpsc::Sender<PreparedBatch>>,
    committed: Arc<AtomicU64>,
    batch: u64,
    clocks_told: Instant,
}

struct StartPlugins<'a> {
    context: &'a ShardContext,
    plugins: Vec<Recipient<PluginBatch>>,
}

impl PluginVisitor for StartPlugins<'_> {
    fn visit<P: Plugin>(&mut self) {
        let status = self.context.status.plugin(P::NAME);
        let actor = PluginActor::<P>::new(self.context.store.clone(), status, self.context.entities_max);
        self.plugins.push(actor.start().recipient());
    }
}

impl ShardState {
    pub(super) fn new(index: usize, context: ShardContext) -> Self {
        Self {
            context,
            index,
            partitions: FxHashMap::default(),
            quarantine: Quarantine::default(),
            plugins: Vec::new(),
            committer: None,
            committed: Arc::default(),
            batch: 0,
            clocks_told: Instant::now(),
        }
    }

    pub(super) async fn take(&mut self, take: Take) -> Result<Vec<PartitionRow>, ShardFault> {
        let partitions = self.context.bus.partitions();
        let rows = self.context.store.take(take.partitions).await?;
        self.quarantine = take.quarantine;
        self.partitions.clear();
        for row in &rows {
            let TopicPartition { topic, partition } = row.partition;
            let lane = if topic == Topic::Rekeyed {
                let buffer = MergeBuffer::restore(partitions, row.next_offset, row.clock, &row.extra);
                Lane::Merge(buffer.ok_or_else(|| {
                    ShardFault::Failed(format!(
                        "the stored place of {} is not understood; was it written by another version?",
                        row.partition
                    ))
                })?)
            } else {
                let rekeying = self.context.sources.rekeying();
                let source = SourcePartition::restore(partition, partitions, row.next_offset, row.clock, rekeying);
                Lane::Source(source.forgetting_after(self.context.forget_sources_ms))
            };
            let owned = Owned { row: row.clone(), lane };
            self.context.takes(row, self.index, owned.standing(row.next_offset));
            self.partitions.insert(row.partition, owned);
        }
        let mut start = StartPlugins { context: &self.context, plugins: Vec::new() };
        visit_all(&mut start);
        self.plugins = start.plugins;
        self.committer = Some(commit::start(self.context.clone(), Arc::clone(&self.committed)));
        Ok(rows)
    }

    pub(super) async fn apply(&mut self, fetched: Vec<(TopicPartition, Fetched)>) -> Result<Applied, ShardFault> {
        self.batch += 1;
        let settings = self.context.control.snapshot();
        let mut assembly = Assembly::new(self.batch, settings);
        let status = Arc::clone(&self.context.status);
        let started = Instant::now();
        let suspects = self.suspects(&fetched);
        let is_alone = fetched.iter().map(|(_, fetched)| fetched.records.len()).sum::<usize>() == 1;
        assembly.keep_shares(!suspects.is_empty() && is_alone);
        for (partition, fetched) in fetched {
            if partition.topic == Topic::Rekeyed {
                self.read_chunks(partition, fetched, &mut assembly).await?;
            } else {
                self.read_events(partition, fetched, &mut assembly).await?;
            }
        }
        self.tell_clocks(&mut assembly);
        status.stages.admit.add_since(started);
        let started = Instant::now();
        let input = Arc::new(BatchInput {
            batch: self.batch,
            committed: self.committed.load(Ordering::Acquire),
            events: std::mem::take(&mut assembly.events),
            groups: std::mem::take(&mut assembly.groups),
            clocks: std::mem::take(&mut assembly.clocks),
            settings: Arc::clone(&assembly.settings),
            refusals: (!suspects.is_empty()).then(|| self.quarantine.refusals(&suspects)),
        });
        if !input.clocks.is_empty() {
            let sends = self.plugins.iter().map(|plugin| plugin.send(PluginBatch(Arc::clone(&input))));
            for reply in join_all(sends).await {
                let outcome = reply.map_err(|_| ShardFault::Failed(panics::why_gone("a plugin's actor")))??;
                assembly.add_plugin(&input, outcome);
            }
        }
        if input.settings.routes_events() {
            let published = std::mem::take(&mut assembly.published);
            assembly.add_inputs(external::route(&input, &published, &status));
        }
        status.stages.decide.add_since(started);
        if let [record] = suspects[..] {
            let shares = refused::shares(&self.context.store, &assembly, &input).await?;
            if !shares.is_empty() {
                return Err(ShardFault::RefusedShares(record, shares));
            }
        }
        let started = Instant::now();
        let applied = self.hand_over(assembly).await;
        status.stages.assemble.add_since(started);
        applied
    }

    /// The records that the store has refused before.
    fn suspects(&self, fetched: &[(TopicPartition, Fetched)]) -> Vec<Place> {
        if self.quarantine.is_empty() {
            return Vec::new();
        }
        let places =
            fetched.iter().flat_map(|(place, fetched)| fetched.records.iter().map(|record| (*place, record.offset)));
        places.filter(|record| self.quarantine.suspects(*record)).collect()
    }

    /// Records of `pos.events`: parse, drop duplicates, move the clock, route.
    async fn read_events(
        &mut self,
        place: TopicPartition,
        fetched: Fetched,
        assembly: &mut Assembly,
    ) -> Result<(), ShardFault> {
        let committed = self.committed.load(Ordering::Acquire);
        let Some(Owned { lane: Lane::Source(source), .. }) = self.partitions.get_mut(&place) else {
            return Ok(());
        };
        let withheld: Vec<(Record, Withheld)> = if self.quarantine.is_empty() {
            Vec::new()
        } else {
            let withheld = |record: &Record| self.quarantine.withheld((place, record.offset));
            fetched.records.iter().filter_map(|record| Some((record.clone(), withheld(record)?))).collect()
        };
        let records: Vec<ParsedRecord> = fetched.records.into_iter().map(parse).collect();
        source.forget_idle_windows(WINDOWS_MAX, committed);
        let unknown = source.unknown_sources(&records);
        if !unknown.is_empty() {
            let names = unknown.iter().map(ToString::to_string).collect();
            let rows = self.context.store.load_windows(place.partition, names).await?;
            if let Some(name) = source.load_windows(&unknown, rows) {
                return Err(ShardFault::Failed(format!("the stored duplicate window of {name} is not understood")));
            }
        }
        let before = source.clock();
        source.want_published(assembly.settings.routes_published());
        let mut outcomes = Vec::new();
        let mut rest = records;
        for (record, how_much) in withheld {
            let from = rest.iter().position(|parsed| parsed.offset() >= record.offset).unwrap_or(rest.len());
            let mut tail = rest.split_off(from);
            let behind = tail.split_off(tail.len().min(1));
            outcomes.push(source.admit(std::mem::replace(&mut rest, behind), record.offset, self.batch));
            let outcome = source.admit(tail, record.offset + 1, self.batch);
            outcomes.push(refused::withhold(outcome, place, &record, how_much, source.clock()));
        }
        outcomes.push(source.admit(rest, fetched.next_offset, self.batch));
        let clock = source.clock();
        if clock > before || outcomes.iter().any(|outcome| !outcome.placed.is_empty()) {
            assembly.clocks.push((place, clock));
        }
        assembly.changed.push(place);
        for mut outcome in outcomes {
            self.context.sources.keep(place.partition, std::mem::take(&mut outcome.rekeyed));
            Self::add_source(place, outcome, assembly);
        }
        Ok(())
    }

    fn add_source(place: TopicPartition, outcome: SourceOutcome, assembly: &mut Assembly) {
        let mut groups: FxHashMap<CompactString, usize> = FxHashMap::default();
        assembly.published.extend(outcome.published.into_iter().map(|placed| (place, placed)));
        for placed in outcome.placed {
            let entity = match &placed.addressee {
                Some(addressee) => addressee.entity.clone(),
                None => CompactString::new(placed.event.terminal_id().unwrap_or_default()),
            };
            assembly.place(&mut groups, place, Scope::Terminal, entity, placed);
        }
        assembly.add_source(outcome.dead_letters, outcome.dead_letters_replayed, outcome.misplaced, place);
        assembly.windows.extend(outcome.windows);
        assembly.shown.extend(outcome.shown);
        assembly.chunks.extend(outcome.chunks.iter().map(|(partition, chunk)| chunk_record(*partition, chunk)));
        assembly.report.events += outcome.events;
        assembly.report.duplicates += outcome.duplicates;
        assembly.report.gaps += outcome.gaps;
        assembly.report.drifts.extend(outcome.drifts);
    }

    /// Records of `pos.events.rekeyed`: back into one order across tills.
    async fn read_chunks(
        &mut self,
        place: TopicPartition,
        fetched: Fetched,
        assembly: &mut Assembly,
    ) -> Result<(), ShardFault> {
        let partitions = self.context.bus.partitions();
        let Some(Owned { lane: Lane::Merge(buffer), .. }) = self.partitions.get_mut(&place) else {
            return Ok(());
        };
        for record in fetched.records {
            match Chunk::decode(record.value.clone()) {
                Ok(mut chunk) => {
                    if self.quarantine.withheld((place, record.offset)).is_some() {
                        assembly.add_letter(place, refused::chunk_letter(place, &record));
                        chunk.events.clear();
                    }
                    let lost = buffer.keep_new(record.offset, &mut chunk);
                    buffer.push(record.offset, resolve::resolve(&self.context, chunk).await?);
                    if !lost.events.is_empty() {
                        let lost = resolve::resolve(&self.context, lost).await?;
                        refused::add_lost(place, &record, lost, buffer.released(), assembly, partitions);
                    }
                }
                Err(error) => {
                    buffer.skip_to(record.offset + 1);
                    assembly.add_unreadable_chunk(place, &record, &error.to_string());
                }
            }
        }
        buffer.skip_to(fetched.next_offset);
        let before = buffer.released();
        let released = buffer.release();
        if buffer.released() > before {
            assembly.clocks.push((place, buffer.released()));
        }
        assembly.changed.push(place);
        let mut groups: FxHashMap<Scope, FxHashMap<CompactString, usize>> = FxHashMap::default();
        for placed in released.into_iter().filter_map(resolve::place) {
            if let Some(addressee) = placed.addressee.clone() {
                let known = groups.entry(addressee.scope).or_default();
                assembly.place(known, place, addressee.scope, addressee.entity.clone(), placed);
                continue;
            }
            let event = Arc::clone(&placed.event);
            let mut index = None;
            for scope in REKEYED_SCOPES {
                let Some(entity) = event.entity(scope) else {
                    continue;
                };
                if entity_partition(scope, entity, partitions) == place.partition {
                    let index = *index.get_or_insert_with(|| assembly.push_event(placed.clone()));
                    assembly.group(groups.entry(scope).or_default(), place, scope, CompactString::new(entity), index);
                }
            }
        }
        Ok(())
    }

    /// Empty chunks, so that other scopes learn how far the clock is; at most every 100 ms.
    fn tell_clocks(&mut self, assembly: &mut Assembly) {
        if self.clocks_told.elapsed() < CLOCK_CHUNK_INTERVAL {
            return;
        }
        self.clocks_told = Instant::now();
        for owned in self.partitions.values_mut() {
            if let Lane::Source(source) = &mut owned.lane {
                let chunks = source.clock_chunks();
                assembly.chunks.extend(chunks.iter().map(|(partition, chunk)| chunk_record(*partition, chunk)));
            }
        }
    }

    async fn hand_over(&mut self, mut assembly: Assembly) -> Result<Applied, ShardFault> {
        let mut standings = Vec::new();
        for place in std::mem::take(&mut assembly.changed) {
            let Some(owned) = self.partitions.get_mut(&place) else {
                continue;
            };
            let mut row = owned.row.clone();
            match &owned.lane {
                Lane::Source(source) => {
                    row.next_offset = source.next_offset();
                    row.clock = source.clock();
                }
                Lane::Merge(buffer) => {
                    row.next_offset = buffer.resume_offset();
                    row.clock = buffer.released();
                    row.extra = buffer.encode_base();
                }
            }
            if row != owned.row || assembly.has_outbox(place) {
                standings.push(owned.standing(row.next_offset));
                assembly.add_partition(row.clone());
                owned.row = PartitionRow { version: row.version + 1, ..row };
            }
        }
        assembly.report.waiting = self.partitions.values().map(Owned::waiting).sum();
        assembly.report.untold = self.partitions.values().any(Owned::has_untold_clock);
        let told = self.partitions.values().filter_map(Owned::told_clocks);
        assembly.report.told = told.reduce(|(low, high), (lower, higher)| (low.min(lower), high.max(higher)));
        let (done, committed) = oneshot::channel();
        let batch = assembly.finish(standings, done);
        let committer =
            self.committer.as_ref().ok_or_else(|| ShardFault::Failed("no partitions taken yet".to_owned()))?;
        committer
            .send(batch)
            .await
            .map_err(|_| ShardFault::Failed("an earlier batch could not be committed".to_owned()))?;
        Ok(Applied { committed })
    }
}

impl Owned {
    /// Where it stands once `next_offset` is committed.
    fn standing(&self, next_offset: i64) -> Standing {
        match &self.lane {
            Lane::Source(_) => Standing::Source(next_offset),
            Lane::Merge(buffer) => Standing::Merge(next_offset, buffer.needed_offsets()),
        }
    }

    /// True if other scopes do not know this partition's clock yet.
    fn has_untold_clock(&self) -> bool {
        matches!(&self.lane, Lane::Source(source) if source.has_untold_clock())
    }

    /// The lowest and the highest clock that chunks have told of.
    fn told_clocks(&self) -> Option<(Timestamp, Timestamp)> {
        match &self.lane {
            Lane::Source(_) => None,
            Lane::Merge(buffer) => Some((buffer.released(), buffer.highest_clock())),
        }
    }

    /// How many events wait for other partitions.
    fn waiting(&self) -> usize {
        match &self.lane {
            Lane::Source(_) => 0,
            Lane::Merge(buffer) => buffer.waiting(),
        }
    }
}
