//! From an applied batch to a committed one: first the chunks for other scopes are durable on the bus, then one
//! transaction in the store, then the feed, the relay and the dispatcher learn of it. Never in another order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::ShardContext;
use crate::actors::quarantine::{Place, Share};
use crate::actors::sources::Standing;
use crate::bus::{BusError, NewRecord, Topic, TopicPartition};
use crate::effect::LogLine;
use crate::feed::FeedItem;
use crate::pipeline::till_clocks::Drifts;
use crate::status::{COMMIT_DURATION, PluginFigures, PluginStatus};
use crate::store::model::{Commit, StoreError};
use crate::time::Timestamp;

/// Batches between two stages.
const STAGE_QUEUE: usize = 1;
/// Waits between attempts while bus or store is away, in milliseconds: doubling up to the last one.
const RETRY_MS: (u64, u64) = (50, 5000);

/// Why a shard cannot go on with what it has in memory, by what to do next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShardFault {
    /// Somebody else owns a partition now.
    #[error("fenced: {0} has another owner")]
    Fenced(TopicPartition),
    /// The settings moved on while the batch was under way: apply it again.
    #[error("the settings were changed meanwhile")]
    SettingsMoved,
    /// The store will not take the batch, now or later: halve it until the culprit is found.
    #[error("the store refused the batch: {0}")]
    Refused(String),
    /// The store will not take these shares of the batch's only record: apply it without them.
    #[error("the store refuses what {} entities make of the message at offset {} of {}", .1.len(), .0.1, .0.0)]
    RefusedShares(Place, Vec<Share>),
    /// Something else failed; begin again from what is committed.
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for ShardFault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Fenced(partition) => Self::Fenced(partition),
            StoreError::SettingsMoved => Self::SettingsMoved,
            StoreError::Refused(message) => Self::Refused(message),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// What a committed batch came to.
#[derive(Debug, Clone, Default)]
pub struct CommitReport {
    /// Number of the batch in its shard.
    pub batch: u64,
    /// Distinct valid events of terminals.
    pub events: u64,
    /// Duplicates dropped.
    pub duplicates: u64,
    /// Sequences skipped.
    pub gaps: u64,
    /// Tills whose clocks are wrong, or right again.
    pub drifts: Drifts,
    /// Dead letters written.
    pub dead_letters: u64,
    /// Events that plugins published.
    pub derived: u64,
    /// Entity states that it changed.
    pub states: usize,
    /// Events that wait in this shard for the lowest clock of all partitions.
    pub waiting: usize,
    /// A clock has moved on since other scopes were last told.
    pub untold: bool,
    /// The lowest and the highest clock of all partitions of `pos.events`, those of other processes included, as far as
    /// chunks have told of them.
    pub told: Option<(Timestamp, Timestamp)>,
}

/// A batch that has been applied and waits to be made durable.
pub(super) struct PreparedBatch {
    pub(super) chunks: Vec<NewRecord>,
    pub(super) commit: Commit,
    pub(super) feed: Vec<FeedItem>,
    pub(super) log: Vec<LogLine>,
    pub(super) report: CommitReport,
    /// What plugins have done with it.
    pub(super) counted: Vec<(Arc<PluginStatus>, PluginFigures)>,
    /// Where the partitions of the commit stand after it, in their order.
    pub(super) standings: Vec<Standing>,
    pub(super) done: oneshot::Sender<Result<CommitReport, ShardFault>>,
}

/// Starts the two stages on the current arbiter; they end when the sender is dropped or a batch fails.
pub(super) fn start(
    context: ShardContext,
    committed: Arc<std::sync::atomic::AtomicU64>,
) -> mpsc::Sender<PreparedBatch> {
    let (to_append, appends) = mpsc::channel(STAGE_QUEUE);
    let (to_commit, commits) = mpsc::channel(STAGE_QUEUE);
    actix::spawn(append_stage(context.clone(), appends, to_commit));
    actix::spawn(commit_stage(context, commits, committed));
    to_append
}

/// Appends chunks as one ordered stream: a later chunk is never sent before an earlier one is durable.
async fn append_stage(
    context: ShardContext,
    mut batches: mpsc::Receiver<PreparedBatch>,
    next: mpsc::Sender<PreparedBatch>,
) {
    while let Some(mut batch) = batches.recv().await {
        let chunks = std::mem::take(&mut batch.chunks);
        let mut wait_ms = RETRY_MS.0;
        let started = Instant::now();
        while !chunks.is_empty() {
            match context.bus.append(chunks.clone()).await {
                Ok(_) => break,
                Err(BusError::Unavailable(why)) => {
                    context.status.set_unready("bus", Some(format!("{why}; trying again")));
                    if batch.done.is_closed() {
                        // Whoever takes over finds out for itself.
                        context.status.set_unready("bus", None);
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                    wait_ms = (wait_ms * 2).min(RETRY_MS.1);
                }
                Err(error) => {
                    let _ = batch.done.send(Err(ShardFault::Failed(error.to_string())));
                    return;
                }
            }
        }
        if wait_ms > RETRY_MS.0 {
            context.status.set_unready("bus", None);
        }
        context.status.stages.append.add_since(started);
        if next.send(batch).await.is_err() {
            return;
        }
    }
}

async fn commit_stage(
    context: ShardContext,
    mut batches: mpsc::Receiver<PreparedBatch>,
    committed: Arc<std::sync::atomic::AtomicU64>,
) {
    while let Some(batch) = batches.recv().await {
        let commit = Arc::new(batch.commit);
        // A batch that only told the clock to other scopes has nothing for the store.
        if !commit.partitions.is_empty() {
            let started = Instant::now();
            if let Err(fault) = commit_with_patience(&context, &commit, &batch.done).await {
                let _ = batch.done.send(Err(fault));
                return;
            }
            context.status.stages.commit.add_since(started);
            metrics::histogram!(COMMIT_DURATION).record(started.elapsed().as_secs_f64());
            context.status.totals.commits.add(1);
        }
        committed.store(batch.report.batch, std::sync::atomic::Ordering::Release);
        let totals = &context.status.totals;
        totals.events.add(batch.report.events);
        totals.duplicates.add(batch.report.duplicates);
        totals.gaps.add(batch.report.gaps);
        if !batch.report.drifts.is_empty() {
            context.status.note_clocks(&batch.report.drifts);
        }
        totals.dead_letters.add(batch.report.dead_letters);
        totals.derived.add(batch.report.derived);
        for (plugin, figures) in &batch.counted {
            plugin.add(figures);
        }
        if !commit.outbox.is_empty() {
            context.outbox.notify_one();
        }
        if !commit.http.is_empty() {
            context.calls.notify_one();
        }
        for line in batch.log {
            tracing::info!(plugin = line.plugin, terminal = line.terminal, at = %line.at, "{}", line.message);
        }
        let started = Instant::now();
        context.feed.publish(batch.feed);
        context.status.stages.feed.add_since(started);
        for (partition, standing) in commit.partitions.iter().zip(batch.standings) {
            context.stands(&partition.row, standing);
        }
        let _ = batch.done.send(Ok(batch.report));
    }
}

/// While the store is away the bus holds the events; this waits, bounded in memory, and goes on by itself.
async fn commit_with_patience(
    context: &ShardContext,
    commit: &Arc<Commit>,
    done: &oneshot::Sender<Result<CommitReport, ShardFault>>,
) -> Result<(), ShardFault> {
    let mut wait_ms = RETRY_MS.0;
    loop {
        match context.store.commit(Arc::clone(commit)).await {
            Ok(()) => {
                if wait_ms > RETRY_MS.0 {
                    tracing::info!("the store takes commits again");
                    context.status.set_unready("store", None);
                }
                return Ok(());
            }
            Err(StoreError::Unavailable(why)) => {
                if wait_ms == RETRY_MS.0 {
                    tracing::warn!(why, "the store is not available; events wait on the bus");
                }
                context.status.set_unready("store", Some(format!("{why}; trying again")));
                if done.is_closed() {
                    // Whoever takes over finds out for itself.
                    context.status.set_unready("store", None);
                    return Err(ShardFault::Failed("stopped".to_owned()));
                }
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                wait_ms = (wait_ms * 2).min(RETRY_MS.1);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A chunk as a record of `pos.events.rekeyed`.
pub(super) fn chunk_record(partition: u32, chunk: &crate::pipeline::chunk::Chunk) -> NewRecord {
    NewRecord {
        topic: Topic::Rekeyed,
        partition: Some(partition),
        key: None,
        value: chunk.encode(),
        headers: Vec::new(),
    }
}
