//! The consumer: topic `order.created` -> orders that wait for the third party, the offset in the same transaction.
//!
//! A process reads the partitions whose number it owns of `pos.events`, so that one assignment serves both topics. Taking a
//! partition raises its epoch and a commit requires it, as everywhere: two who both believe that a partition is theirs
//! hand nothing over twice. An order that is known stays as it is, so a message that is on the topic twice does no harm. A
//! partition that cannot be read, or of which the store refuses something, is set aside, and the others go on.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::OrderContext;
use crate::bus::{BusError, Record, Topic, TopicPartition};
use crate::delivery::ownership::{self, Held};
use crate::delivery::{Backoff, PassError, Resting};
use crate::event::{Event, EventData};
use crate::feed::{FeedBody, FeedItem, FeedKind};
use crate::orders::logged::logged_order;
use crate::plugins::Plugin;
use crate::plugins::order_delivery::OrderDelivery as OrderDeliveryPlugin;
use crate::store::model::{Commit, DeadLetter, OutboxRow, PartitionCommit, PartitionRow};
use crate::store::{OrderDelivery, StoreError};
use crate::time::Timestamp;

/// Bytes of one partition that are read at once.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// Its name among the parts of the process.
const PART: &str = "order-intake";
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(5) };

/// Reads orders from the bus.
pub struct Intake {
    context: OrderContext,
}

/// What one pass has read of all partitions.
#[derive(Default)]
struct Batch {
    partitions: Vec<PartitionRow>,
    orders: Vec<(OrderDelivery, Arc<Event>)>,
    /// What the orders were read from.
    records: Vec<Record>,
    dead_letters: Vec<DeadLetter>,
}

impl Intake {
    /// An intake that wakes when orders are published.
    #[must_use]
    pub const fn new(context: OrderContext) -> Self {
        Self { context }
    }

    /// Reads until the future is dropped, which is safe at any moment.
    pub async fn run(&self) {
        let mut held = Held::new();
        let mut resting = Resting::default();
        let mut failures = 0;
        loop {
            match self.pass(&mut held, &mut resting).await {
                Ok(true) => failures = 0,
                Ok(false) => {
                    failures = 0;
                    let woken = self.context.signals.published.notified();
                    let _ = tokio::time::timeout(self.context.poll(), woken).await;
                }
                Err(PassError::Store(StoreError::Fenced(place))) => {
                    tracing::info!(%place, "another process reads this partition of orders now");
                    held.remove(&place);
                    tokio::time::sleep(BACKOFF.pause(1)).await;
                }
                Err(PassError::Store(StoreError::SettingsMoved)) => {
                    if let Err(error) = self.context.control.refresh().await {
                        tracing::warn!(%error, "the new settings cannot be read yet; trying again");
                        tokio::time::sleep(BACKOFF.pause(2)).await;
                    }
                }
                Err(error) => {
                    failures += 1;
                    // Where the store stands may be unknown: it is read again.
                    held.clear();
                    if failures == 1 {
                        tracing::warn!(%error, "orders cannot be read from the bus; trying again");
                    }
                    tokio::time::sleep(BACKOFF.pause(failures)).await;
                }
            }
        }
    }

    /// Reads and hands over what there is. True if there may be more.
    async fn pass(&self, held: &mut Held, resting: &mut Resting) -> Result<bool, PassError> {
        let OrderContext { store, status, bus, .. } = &self.context;
        let place = |(number, epoch)| (TopicPartition::new(Topic::OrderCreated, number), (number, epoch));
        let wanted = ownership::owned(status).into_iter().map(place).collect();
        for row in ownership::keep_up(store, status, held, wanted).await? {
            bus.set_floor(row.partition, row.next_offset);
        }
        let read = self.read(held, resting).await?;
        if read.is_empty() {
            return Ok(false);
        }
        let mut together = Batch::default();
        for one in &read {
            together.append(one);
        }
        match self.hand_over(together, held).await {
            // One of them is at fault: the others must not wait for it.
            Err(PassError::Store(StoreError::Refused(_))) => {
                for one in read {
                    let place = one.partitions[0].partition;
                    match self.hand_over(one, held).await {
                        Err(error @ PassError::Store(StoreError::Refused(_))) => {
                            resting.set_aside(&self.context.status.parked, PART, place, &error);
                        }
                        done => done?,
                    }
                }
            }
            done => done?,
        }
        Ok(true)
    }

    /// What is new, by partition.
    async fn read(&self, held: &Held, resting: &mut Resting) -> Result<Vec<Batch>, PassError> {
        let parked = &self.context.status.parked;
        let rows: Vec<_> = held.values().filter(|row| !resting.rests(row.partition)).collect();
        let reads = futures_util::future::join_all(rows.iter().map(|row| self.read_one(row))).await;
        let all_fail = reads.iter().all(Result::is_err);
        let mut batches = Vec::new();
        for (row, read) in rows.iter().zip(reads) {
            match read {
                Ok(batch) => {
                    // One that was refused goes on only once it has been handed over.
                    if batch.is_none() {
                        resting.goes_on(parked, PART, row.partition);
                    }
                    batches.extend(batch);
                }
                // The bus is away, for all of them.
                Err(error) if all_fail => return Err(error),
                Err(error) => resting.set_aside(parked, PART, row.partition, &error),
            }
        }
        let mut known = Vec::with_capacity(batches.len());
        for mut batch in batches {
            match batch.set_unknown_aside(&self.context).await {
                Ok(()) => known.push(batch),
                Err(error @ StoreError::Refused(_)) => {
                    resting.set_aside(parked, PART, batch.partitions[0].partition, &error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(known)
    }

    async fn read_one(&self, row: &PartitionRow) -> Result<Option<Batch>, PassError> {
        let bus = &self.context.bus;
        let bounds = bus.bounds(row.partition).await?;
        bounds.require(row.partition, row.next_offset)?;
        if bounds.high <= row.next_offset {
            return Ok(None);
        }
        let fetched = match bus.read(row.partition, row.next_offset, READ_BYTES_MAX).await {
            Err(BusError::Gone { partition, offset, low }) => {
                tracing::error!(%partition, offset, low, "orders were removed from the bus before they were read; those stay PENDING: lengthen the topic's retention");
                bus.read(row.partition, low, READ_BYTES_MAX).await?
            }
            other => other?,
        };
        if fetched.next_offset <= row.next_offset {
            return Ok(None);
        }
        let mut batch = Batch::default();
        let mut row = row.clone();
        row.next_offset = fetched.next_offset;
        for record in fetched.records {
            row.clock = row.clock.max(record.timestamp);
            batch.add(row.partition, &record);
        }
        batch.partitions.push(row);
        Ok(Some(batch))
    }

    async fn hand_over(&self, batch: Batch, held: &mut Held) -> Result<(), PassError> {
        let Batch { partitions, orders, dead_letters, .. } = batch;
        let (deliveries, events): (Vec<_>, Vec<_>) = orders.into_iter().unzip();
        let outbox = copies(&dead_letters);
        let (given, lost) = (deliveries.len() as u64, dead_letters.len() as u64);
        let commit = Arc::new(Commit {
            partitions: partitions.iter().cloned().map(|row| PartitionCommit { row }).collect(),
            settings_epoch: self.context.control.snapshot().epoch(),
            deliveries,
            dead_letters,
            outbox,
            ..Commit::default()
        });
        self.context.store.commit(Arc::clone(&commit)).await?;
        for mut row in partitions {
            row.version += 1;
            self.context.bus.set_floor(row.partition, row.next_offset);
            held.insert(row.partition, row);
        }
        let status = &self.context.status;
        status.orders.consumed.add(given);
        status.totals.dead_letters.add(lost);
        status.plugin(OrderDeliveryPlugin::NAME).consumed.add(given);
        if lost > 0 {
            self.context.outbox.notify_one();
        }
        self.context.signals.due.notify_one();
        self.show(events);
        Ok(())
    }

    fn show(&self, events: Vec<Arc<Event>>) {
        let figures = self.context.status.plugin(OrderDeliveryPlugin::NAME);
        let item = |event: Arc<Event>| {
            figures.last_event_at.raise(event.time.as_millis());
            FeedItem { kind: FeedKind::Event, at: Timestamp::now(), body: FeedBody::Event(event) }
        };
        self.context.feed.publish(events.into_iter().map(item).collect());
    }
}

impl Batch {
    fn append(&mut self, other: &Self) {
        self.partitions.extend_from_slice(&other.partitions);
        self.orders.extend_from_slice(&other.orders);
        self.dead_letters.extend_from_slice(&other.dead_letters);
    }

    fn add(&mut self, place: TopicPartition, record: &Record) {
        match Event::parse(&record.value) {
            Ok(event) => match &event.data {
                EventData::OrderCreated(order) => {
                    let delivery = OrderDelivery {
                        order_id: order.id.to_string(),
                        partition: place.partition,
                        offset: record.offset,
                        published_at: record.timestamp,
                    };
                    self.orders.push((delivery, Arc::new(event)));
                    self.records.push(record.clone());
                }
                _ => self.refuse(place, record, ("not_an_order", None, "is no order.created of Tillstream".to_owned())),
            },
            Err(error) => self.refuse(place, record, (error.reason.as_str(), error.field.clone(), error.message)),
        }
    }

    fn refuse(&mut self, place: TopicPartition, record: &Record, fault: (&str, Option<String>, String)) {
        self.dead_letters.push(DeadLetter::of_record(place, record, record.timestamp, fault));
    }

    /// Orders that nobody has accepted become dead letters: somebody else has written to the topic. Those that carry their key come
    /// back: a database that was set back while processes worked on it, as a replica that was promoted, has lost them.
    async fn set_unknown_aside(&mut self, context: &OrderContext) -> Result<(), StoreError> {
        let ids = self.orders.iter().map(|(delivery, _)| delivery.order_id.clone()).collect();
        let unknown: HashSet<String> = context.store.unknown_orders(ids).await?.into_iter().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut lost = Vec::new();
        let orders = std::mem::take(&mut self.orders);
        let records = std::mem::take(&mut self.records);
        for ((delivery, event), record) in orders.into_iter().zip(records) {
            if !unknown.contains(&delivery.order_id) {
                self.orders.push((delivery, event));
                continue;
            }
            let logged = logged_order(delivery.partition, &record).filter(|logged| logged.key.is_some());
            if let Some(logged) = logged {
                lost.push(logged);
                self.orders.push((delivery, event));
                continue;
            }
            let message = "no such order was accepted here; discard it, or post it to /api/orders".to_owned();
            let place = TopicPartition::new(Topic::OrderCreated, delivery.partition);
            self.refuse(place, &record, ("unknown_order", None, message));
        }
        if !lost.is_empty() {
            let restored = context.store.take_up_orders(lost).await?;
            tracing::warn!(
                orders = restored.rebuilt,
                "the store did not know orders that are on order.created: it was set back. They and their keys are there again; see \
                 Backup and restore in docs/operations.md for what else to do"
            );
        }
        Ok(())
    }
}

/// A copy of each dead letter for other consumers, one outbox row for each partition.
fn copies(letters: &[DeadLetter]) -> Vec<OutboxRow> {
    let mut rows: BTreeMap<TopicPartition, OutboxRow> = BTreeMap::new();
    for letter in letters {
        let row = rows.entry(letter.partition).or_insert_with(|| OutboxRow {
            lane: letter.partition.to_string(),
            seq: letter.offset,
            records: Vec::new(),
        });
        row.seq = row.seq.max(letter.offset);
        row.records.push(letter.copy());
    }
    rows.into_values().collect()
}
