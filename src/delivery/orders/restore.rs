//! After a restore: what the store has lost of orders is taken up again from the bus, before anything else happens.
//!
//! Nobody may accept an order meanwhile, since its key might be one of those that are missing; nobody may publish or send one,
//! since it might be on the bus or with the third party already. So every process does this at its start, and most find nothing to
//! do. `docs/decisions/024-orders-come-back-from-the-log.md` tells why.

use std::time::{Duration, Instant};

use crate::bus::{Bus, BusError, Record, Topic, TopicPartition};
use crate::delivery::PassError;
use crate::orders::logged::{logged_end, logged_order};
use crate::store::{LoggedEnd, LoggedOrder, RestoredOrders, Store};

/// Bytes of one partition that are read at once.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Between two looks at a partition whose last records may still be taken back.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often progress is told.
const TELL: Duration = Duration::from_secs(5);

/// Takes up what a new or restored store may have lost. Returns at once where nothing was.
///
/// # Errors
/// Faults of store and bus. Trying again is safe, and goes on where need be.
pub async fn restore(store: &Store, bus: &dyn Bus) -> Result<(), PassError> {
    if !store.begin_restoring_orders().await? {
        return Ok(());
    }
    let mut restored = RestoredOrders::default();
    let mut progress = Progress::default();
    let rows = store.partitions().await?;
    let next = |place| rows.iter().find(|row| row.partition == place).map_or(0, |row| row.next_offset);
    for partition in 0..Topic::OrderCreated.partitions(bus.partitions()) {
        let place = TopicPartition::new(Topic::OrderCreated, partition);
        let mut rest = Rest::of(bus, place, next(place)).await?;
        while let Some(records) = rest.read(bus, &mut progress).await? {
            let logged: Vec<LoggedOrder> =
                records.iter().filter_map(|record| logged_order(partition, record)).collect();
            restored += store.take_up_orders(logged).await?;
        }
    }
    // A new store beside a log without orders need not read all that tills have sent.
    if store.has_open_orders().await? {
        for partition in 0..bus.partitions() {
            let place = TopicPartition::new(Topic::Events, partition);
            let mut rest = Rest::of(bus, place, next(place)).await?;
            while let Some(records) = rest.read(bus, &mut progress).await? {
                let ends: Vec<LoggedEnd> = records.iter().filter_map(|record| logged_end(&record.value)).collect();
                if !ends.is_empty() {
                    restored += store.end_orders_again(ends).await?;
                }
            }
        }
    }
    store.orders_are_restored(restored).await?;
    tell(restored);
    Ok(())
}

fn tell(restored: RestoredOrders) {
    if restored.is_empty() {
        return;
    }
    let RestoredOrders { rebuilt, without_key, delivered, failed } = restored;
    tracing::warn!(
        rebuilt,
        without_key,
        delivered,
        failed,
        "the store was restored: orders that it had lost came back from order.created, and those that had ended before have ended \
         again. Of orders without a key a repeated request makes a new order; GET /api/orders shows all of them"
    );
}

/// What one partition holds from a place on, up to its end when it was first looked at.
struct Rest {
    place: TopicPartition,
    next: i64,
    end: i64,
}

impl Rest {
    async fn of(bus: &dyn Bus, place: TopicPartition, next: i64) -> Result<Self, BusError> {
        let bounds = bus.bounds(place).await?;
        if next < bounds.low && next > 0 {
            tracing::error!(
                %place, next, low = bounds.low,
                "the bus no longer holds all that came after the backup; orders of that time cannot come back: lengthen the topic's retention"
            );
        }
        Ok(Self { place, next: next.max(bounds.low), end: bounds.high })
    }

    /// The next records, in order; `None` at the end.
    async fn read(&mut self, bus: &dyn Bus, progress: &mut Progress) -> Result<Option<Vec<Record>>, BusError> {
        while self.next < self.end {
            let fetched = match bus.read(self.place, self.next, READ_BYTES_MAX).await {
                // Waiting would bring nothing back, and keep everything else from starting.
                Err(BusError::Unreadable { why, .. }) => {
                    tracing::error!(place = %self.place, offset = self.next, why, "a record is passed over while orders are restored");
                    self.next += 1;
                    continue;
                }
                other => other?,
            };
            if fetched.next_offset <= self.next {
                // A transaction that somebody has left behind: the bus decides it in its own time.
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            self.next = fetched.next_offset;
            progress.add(self, fetched.records.len());
            return Ok(Some(fetched.records));
        }
        Ok(None)
    }
}

/// Tells now and then how far it is.
struct Progress {
    records: u64,
    told_at: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { records: 0, told_at: Instant::now() }
    }
}

impl Progress {
    fn add(&mut self, rest: &Rest, records: usize) {
        self.records += records as u64;
        if self.told_at.elapsed() >= TELL {
            self.told_at = Instant::now();
            let left = rest.end - rest.next;
            tracing::info!(records = self.records, place = %rest.place, left, "looking through the bus for orders that the store may lack");
        }
    }
}
