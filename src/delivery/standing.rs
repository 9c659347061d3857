//! Looks at every place that this process is responsible for, from outside: where it stands in the store, and whether the bus or the
//! store has more behind that. So it does not matter what keeps a place from moving, a loop that hangs included.
//!
//! The places: the partitions that are owned, with their topics of orders and of what plugins tell; the lanes of the outbox; the calls
//! that are due, by slot. [`Standing`](crate::status::Standing) remembers since when each has not moved, and readiness tells.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Delivery;
use super::dispatcher::SLOTS;
use crate::actors::shard::ShardContext;
use crate::bus::{BusError, Topic, TopicPartition};
use crate::config::Role;
use crate::store::StoreError;
use crate::time::Timestamp;

/// How often all places are looked at.
const LOOK: Duration = Duration::from_secs(3);
/// Partitions whose ends are asked for at once.
const AT_ONCE: usize = 16;
/// How long the bus may take to say where a partition ends, and what is wrong with its next record.
const PATIENCE: Duration = Duration::from_secs(12);
/// A place that has stood for so long is asked for the cause.
const ASK_AFTER: Duration = Duration::from_secs(2);

/// The watch over all places of a process.
pub struct PlaceWatch {
    context: ShardContext,
    delivery: Delivery,
    roles: Vec<Role>,
}

impl PlaceWatch {
    /// A watch for a process with these roles.
    #[must_use]
    pub const fn new(context: ShardContext, delivery: Delivery, roles: Vec<Role>) -> Self {
        Self { context, delivery, roles }
    }

    /// Looks until the future is dropped, which is safe at any moment.
    pub async fn run(&self) {
        loop {
            let mut watched = BTreeSet::new();
            // Where the store does not answer, readiness says so already, and what was seen before holds.
            match self.look(&mut watched).await {
                Ok(()) => self.context.status.standing.retain(|place| watched.contains(place)),
                Err(error) => tracing::debug!(%error, "where places stand cannot be seen now"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self, watched: &mut BTreeSet<String>) -> Result<(), StoreError> {
        let has = |role| self.roles.contains(&role);
        if has(Role::Processor) {
            self.partitions(watched).await?;
        }
        if has(Role::Relay) {
            self.lanes(watched).await?;
        }
        if has(Role::Dispatcher) {
            self.calls(watched).await?;
        }
        Ok(())
    }

    /// Partitions of events and what is read beside them, as the store has them.
    async fn partitions(&self, watched: &mut BTreeSet<String>) -> Result<(), StoreError> {
        let owned: BTreeSet<_> = self.context.status.partitions().into_iter().map(|(place, _)| place).collect();
        let has_plugins = !self.context.control.snapshot().externals().is_empty();
        let is_ours = |place: TopicPartition| {
            let of_events = TopicPartition::new(Topic::Events, place.partition);
            match place.topic {
                Topic::Events | Topic::Rekeyed => owned.contains(&place),
                Topic::OrderCreated | Topic::Manifests => owned.contains(&of_events),
                Topic::DeadLetters => has_plugins && owned.contains(&of_events),
                _ => false,
            }
        };
        let rows = self.context.store.partitions().await?;
        let rows: Vec<_> = rows.into_iter().filter(|row| is_ours(row.partition)).collect();
        for rows in rows.chunks(AT_ONCE) {
            let ends = rows.iter().map(|row| timeout(PATIENCE, self.context.bus.bounds(row.partition)));
            for (row, end) in rows.iter().zip(join_all(ends).await) {
                let name = row.partition.to_string();
                // Where the bus does not answer, what was seen before holds.
                if let Ok(Ok(bounds)) = end {
                    self.partition(&name, row.partition, row.next_offset, bounds.high).await;
                }
                watched.insert(name);
            }
        }
        Ok(())
    }

    async fn partition(&self, name: &str, place: TopicPartition, next: i64, end: i64) {
        let position = format!("offset {next}");
        let has_work = end > next;
        let cause = if has_work && self.has_stood(name, &position) { self.cause(place, next).await } else { None };
        self.context.status.standing.saw(name, &position, has_work, cause);
    }

    fn has_stood(&self, name: &str, position: &str) -> bool {
        let stood = self.context.status.standing.for_longer_than(ASK_AFTER);
        stood.iter().any(|known| known.place == name && known.position == position)
    }

    /// Why a partition cannot be read on, if it is that.
    async fn cause(&self, place: TopicPartition, next: i64) -> Option<String> {
        match timeout(PATIENCE, self.context.bus.read(place, next, 1)).await {
            Ok(Ok(_)) => None,
            Ok(Err(BusError::Unreadable { why, .. })) => Some(why),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("reading it gives nothing within {} s", PATIENCE.as_secs())),
        }
    }

    async fn lanes(&self, watched: &mut BTreeSet<String>) -> Result<(), StoreError> {
        let figures = self.delivery.relay.as_ref().map(|relay| relay.figures()).unwrap_or_default();
        for backlog in self.context.store.outbox_backlog().await? {
            let name = format!("outbox lane {}", backlog.lane);
            let parked = figures.parked.iter().find(|parked| parked.lane == backlog.lane);
            let cause = parked.map(|parked| parked.reason.clone()).or_else(|| figures.error.clone());
            self.context.status.standing.saw(&name, &format!("row {}", backlog.first), true, cause);
            watched.insert(name);
        }
        Ok(())
    }

    /// The call of each slot that is due for longest. Each attempt moves it: it ends, or is due later.
    async fn calls(&self, watched: &mut BTreeSet<String>) -> Result<(), StoreError> {
        if self.context.store.http_depth().await? == 0 {
            return Ok(());
        }
        let cause = self.delivery.dispatcher.as_ref().and_then(|dispatcher| dispatcher.figures().error);
        for slot in 0..SLOTS {
            let due = self.context.store.http_due_in(Timestamp::now(), 1, SLOTS, vec![slot]).await?;
            let Some(call) = due.rows.first() else { continue };
            let name = format!("calls of slot {slot:02}");
            let position = format!("call {} after {} attempts", call.effect.id, call.attempts);
            let cause = cause.clone().or_else(|| call.error.clone());
            self.context.status.standing.saw(&name, &position, true, cause);
            watched.insert(name);
        }
        Ok(())
    }
}
