//! The publisher: accepted orders -> topic `order.created`, each once for those who read what is committed.
//!
//! Orders get a batch number in the store, then the batch is sent with [`Bus::append_lane`](crate::bus::Bus::append_lane), which stores the number
//! together with the records, then the batch is gone. Whatever crashes in between, the lane's position tells whether the
//! batch is on the bus. Several publishers may run: one holds a lease and the others wait. Should one that was paused
//! believe that it still holds it, the store gives it no number, and the bus has been told that the lane is somebody
//! else's.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::OrderContext;
use crate::bus::{BusError, NewRecord, Topic};
use crate::delivery::{Backoff, PassError};
use crate::orders::logged::key_headers;
use crate::orders::order::created_event;
use crate::pipeline::source::content_type;
use crate::store::{PublishBatch, Publishing, StoreError};
use crate::time::Timestamp;

/// Orders in one batch.
const BATCH_MAX: usize = 1000;
/// How long a publisher that is no longer heard of keeps the others waiting.
const LEASE: Duration = Duration::from_secs(2);
/// How often the lease is renewed.
const RENEW: Duration = Duration::from_millis(500);
/// How long an order that the bus refuses rests before it is tried again.
const PARKED: Duration = Duration::from_mins(1);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(5) };

/// Puts accepted orders onto the bus.
pub struct Publisher {
    context: OrderContext,
    owner: String,
}

/// What a run knows.
#[derive(Default)]
struct Knowledge {
    lane: String,
    leased_at: Option<Instant>,
    /// The last batch that is on the bus; unknown after a fault.
    position: Option<i64>,
    parked_looked_at: Option<Instant>,
}

impl Publisher {
    /// A publisher that wakes when orders are accepted.
    #[must_use]
    pub fn new(context: OrderContext) -> Self {
        // A process that is alone with its bus need not wait for the lease of the one before it.
        let owner = if context.bus.is_shared() { context.owner.clone() } else { "alone".to_owned() };
        Self { context, owner }
    }

    /// Publishes until the future is dropped, which is safe at any moment.
    pub async fn run(&self) {
        let mut known = Knowledge::default();
        let mut failures = 0;
        loop {
            match self.pass_and_keep_lease(&mut known).await {
                Ok(true) => failures = 0,
                Ok(false) => {
                    failures = 0;
                    let woken = self.context.signals.accepted.notified();
                    let _ = tokio::time::timeout(self.context.poll(), woken).await;
                }
                Err(error) => {
                    failures += 1;
                    // What was done is unknown: ask again.
                    known = Knowledge { lane: known.lane, ..Knowledge::default() };
                    if failures == 1 {
                        tracing::warn!(%error, "orders cannot be published; trying again");
                    }
                    // Another one may have better luck; what the store does not take runs out by itself.
                    let _ = self.context.store.release_order_publishing(&self.owner).await;
                    tokio::time::sleep(BACKOFF.pause(failures)).await;
                }
            }
        }
    }

    /// A bus that is slow must not cost the lease: whoever took it would have to fence this publisher and begin again.
    async fn pass_and_keep_lease(&self, known: &mut Knowledge) -> Result<bool, PassError> {
        let holds_lease = known.leased_at.is_some();
        let pass = self.pass(known);
        tokio::pin!(pass);
        loop {
            tokio::select! {
                result = &mut pass => return result,
                () = tokio::time::sleep(RENEW), if holds_lease => {
                    // Should it be lost, the store gives no further batch.
                    let _ = self.context.store.lease_order_publishing(&self.owner, LEASE).await;
                }
            }
        }
    }

    /// Sends one batch. True if there was one.
    async fn pass(&self, known: &mut Knowledge) -> Result<bool, PassError> {
        let store = &self.context.store;
        if known.lane.is_empty() {
            known.lane = format!("{}/orders", store.identity().await?);
        }
        if known.leased_at.is_none_or(|at| at.elapsed() > RENEW) {
            let asked = Instant::now();
            if !store.lease_order_publishing(&self.owner, LEASE).await? {
                *known = Knowledge { lane: std::mem::take(&mut known.lane), ..Knowledge::default() };
                return Ok(false);
            }
            let is_new = known.leased_at.replace(asked).is_none();
            if is_new {
                // The next pass keeps it, however long the bus takes.
                return Ok(true);
            }
        }
        let position =
            if let Some(position) = known.position { position } else { self.ask_position(&known.lane).await? };
        known.position = Some(position);
        self.retry_parked(known).await?;
        let Some(batch) = store.next_order_batch(&self.owner, BATCH_MAX).await? else { return Ok(false) };
        if batch.number > position {
            if !batch.unreadable.is_empty() {
                for (id, reason) in &batch.unreadable {
                    tracing::error!(order = id, reason, "an order cannot be published; it is parked, others go on");
                }
                store.park_orders(&self.owner, batch.number, batch.unreadable).await?;
                return Ok(true);
            }
            match self.send(&known.lane, &batch).await {
                Ok(()) => known.position = Some(batch.number),
                Err(BusError::Refused(reason)) => {
                    let orders = batch.orders.len();
                    if let [Publishing { order, .. }] = batch.orders.as_slice() {
                        tracing::error!(
                            order = order.id,
                            reason,
                            "the bus refuses an order; it is parked, others go on"
                        );
                    }
                    tracing::debug!(orders, reason, "a batch of orders is sent one by one");
                    store.split_order_batch(&self.owner, batch.number, &reason).await?;
                    return Ok(true);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let published = store.order_batch_published(batch.number, Timestamp::now()).await?;
        self.context.status.orders.published.add(published as u64);
        self.context.signals.published.notify_one();
        Ok(true)
    }

    /// Where the lane stands on the bus. Also takes the lane away from whoever had it before, and waits for what that one had begun.
    async fn ask_position(&self, lane: &str) -> Result<i64, PassError> {
        let position = self.context.bus.lane_position(lane.to_owned()).await?.unwrap_or(0);
        if self.context.store.order_batches_follow(&self.owner, position).await? {
            tracing::error!(
                position,
                "the store was set back behind the bus; new batches of orders go on behind what the bus has. See Backup and restore in \
                 docs/operations.md for what else to do"
            );
        }
        Ok(position)
    }

    async fn retry_parked(&self, known: &mut Knowledge) -> Result<(), StoreError> {
        if known.parked_looked_at.is_some_and(|at| at.elapsed() < PARKED) {
            return Ok(());
        }
        self.context.store.retry_parked_orders(PARKED).await?;
        known.parked_looked_at = Some(Instant::now());
        Ok(())
    }

    async fn send(&self, lane: &str, batch: &PublishBatch) -> Result<(), BusError> {
        let records = batch.orders.iter().map(record).collect();
        self.context.bus.append_lane(lane.to_owned(), batch.number, records).await
    }
}

fn record(Publishing { order, key }: &Publishing) -> NewRecord {
    let mut headers = vec![content_type()];
    headers.extend(key.iter().flat_map(|key| key_headers(key, &order.document)));
    NewRecord {
        topic: Topic::OrderCreated,
        partition: None,
        key: Some(Bytes::copy_from_slice(order.id.as_bytes())),
        value: created_event(order),
        headers,
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
