//! One thread's share of the partitions: applies batches in order and hands them on to be committed.
//!
//! The next batch is applied while the last one commits. Whatever goes wrong with a commit, everything in memory that
//! is not committed is dropped with this actor, and a new one begins where the store stands.

mod assemble;
mod commit;
mod external;
mod refused;
mod resolve;
mod state;

use std::sync::Arc;

use actix::{Actor, ActorFutureExt, AtomicResponse, Context, Handler, Message, WrapFuture};
use tokio::sync::{Notify, oneshot};

pub use commit::{CommitReport, ShardFault};
use state::ShardState;

use super::panics::{LastWords, Witness};
use super::quarantine::Quarantine;
use super::sources::{Sources, Standing};
use crate::bus::{Bus, Fetched, TopicPartition};
use crate::control::Control;
use crate::feed::Feed;
use crate::status::Status;
use crate::store::Store;
use crate::store::model::PartitionRow;

/// What every shard of a process shares.
#[derive(Clone)]
pub struct ShardContext {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The store.
    pub store: Store,
    /// The truth about plugins.
    pub control: Arc<Control>,
    /// The live feed.
    pub feed: Feed,
    /// What is shared about the partitions of `pos.events`.
    pub sources: Arc<Sources>,
    /// What the process is doing.
    pub status: Arc<Status>,
    /// Wakes the relay after commits.
    pub outbox: Arc<Notify>,
    /// Wakes the dispatcher after commits.
    pub calls: Arc<Notify>,
    /// Entities kept in memory for each shard and plugin.
    pub entities_max: usize,
    /// How long a source may be silent before its duplicate window counts as absent, in milliseconds.
    pub forget_sources_ms: Option<i64>,
}

impl ShardContext {
    /// A shard has taken a partition, which stands here. Only this makes the partition one of this process.
    fn takes(&self, row: &PartitionRow, shard: usize, standing: Standing) {
        self.status.take_partition(row, shard);
        self.forget_below(self.sources.takes(row.partition, standing));
    }

    /// A commit has moved a partition on, which stands here now; nothing happens if it was revoked meanwhile.
    fn stands(&self, row: &PartitionRow, standing: Standing) {
        self.status.partition_committed(row);
        self.forget_below(self.sources.stands(row.partition, standing));
    }

    /// What nobody needs any more may be forgotten on the bus.
    fn forget_below(&self, floors: Vec<(TopicPartition, i64)>) {
        for (place, floor) in floors {
            self.bus.set_floor(place, floor);
        }
    }
}

/// Take these partitions over: nobody else can commit them from now on. Answers where each of them stands.
#[derive(Message)]
#[rtype(result = "Result<Vec<PartitionRow>, ShardFault>")]
pub struct Take {
    /// The partitions.
    pub partitions: Vec<TopicPartition>,
    /// What the store will not take: it becomes dead letters.
    pub quarantine: Quarantine,
}

/// A batch of records, in order for each partition.
#[derive(Message)]
#[rtype(result = "Result<Applied, ShardFault>")]
pub struct ApplyBatch {
    /// What was read.
    pub fetched: Vec<(TopicPartition, Fetched)>,
}

/// A batch that has been applied in memory.
#[derive(Debug)]
pub struct Applied {
    /// Ends when the batch is committed, or with the reason why it is not.
    pub committed: oneshot::Receiver<Result<CommitReport, ShardFault>>,
}

/// Stop as if it had crashed; tests prove with it that a crash changes no result.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Crash;

/// One thread's share of the partitions.
pub struct Shard {
    /// None while a message is handled, and for good once one has failed: what was half done must never be built upon.
    state: Option<ShardState>,
    /// Tells ingress, on another thread, what a panic said.
    _witness: Witness,
}

impl Shard {
    /// A shard without partitions. Must be called on the arbiter that it will live on.
    #[must_use]
    pub fn new(index: usize, context: ShardContext, last_words: LastWords) -> Self {
        Self { state: Some(ShardState::new(index, context)), _witness: Witness(last_words) }
    }

    /// Works on the state, one message after the other. After a fault everything that follows is refused: the batches that are
    /// on their way would be applied to a state that lacks a part of the one before, and moving the places on would lose it.
    fn with_state<T: 'static>(
        &mut self,
        work: impl AsyncFnOnce(&mut ShardState) -> Result<T, ShardFault> + 'static,
    ) -> AtomicResponse<Self, Result<T, ShardFault>> {
        let state = self.state.take();
        let work = async move {
            let Some(mut state) = state else {
                return (None, Err(ShardFault::Failed("an earlier batch could not be applied".to_owned())));
            };
            let result = work(&mut state).await;
            (result.is_ok().then_some(state), result)
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(|(state, result), actor, _| {
            actor.state = state;
            result
        })))
    }
}

impl Actor for Shard {
    type Context = Context<Self>;
}

impl Handler<Take> for Shard {
    type Result = AtomicResponse<Self, Result<Vec<PartitionRow>, ShardFault>>;

    fn handle(&mut self, take: Take, _: &mut Context<Self>) -> Self::Result {
        self.with_state(async move |state| state.take(take).await)
    }
}

impl Handler<ApplyBatch> for Shard {
    type Result = AtomicResponse<Self, Result<Applied, ShardFault>>;

    fn handle(&mut self, batch: ApplyBatch, _: &mut Context<Self>) -> Self::Result {
        self.with_state(async move |state| state.apply(batch.fetched).await)
    }
}

impl Handler<Crash> for Shard {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Context<Self>) {
        panic!("crashed on request");
    }
}

#[cfg(test)]
mod tests;
