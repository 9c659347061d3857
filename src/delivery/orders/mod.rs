//! What becomes of an accepted order: [`publisher`] carries it to the bus, [`intake`] reads it from there, [`dispatcher`]
//! sends it to the third party, and [`restore`] brings back what a store has lost. Each may run in a process of its own, and several of each; all state is in the store and
//! on the bus.

pub mod dispatcher;
mod in_flight;
pub mod intake;
pub mod publisher;
pub mod restore;
mod third_party;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::bus::{Bus, BusError, Topic, TopicPartition};
use crate::config::RemoteUrl;
use crate::control::Control;
use crate::feed::Feed;
use crate::orders::OrderSignals;
use crate::plugins::order_delivery::OrderDelivery;
use crate::status::Status;
use crate::store::{Store, StoreError};

/// Without being woken, a stage looks this often where the one before it may run in another process,
const POLL_SHARED: Duration = Duration::from_millis(100);
/// and this often where it does not.
const POLL: Duration = Duration::from_millis(500);

/// What the stages work with.
#[derive(Clone)]
pub struct OrderContext {
    /// The store.
    pub store: Store,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The truth about plugins.
    pub control: Arc<Control>,
    /// The live feed.
    pub feed: Feed,
    /// What the process is doing.
    pub status: Arc<Status>,
    /// Wakes the next stage.
    pub signals: OrderSignals,
    /// Wakes the relay: something was put into its outbox.
    pub outbox: Arc<tokio::sync::Notify>,
    /// `orders.url`.
    pub url: Option<RemoteUrl>,
    /// `orders.lookup`.
    pub lookup: bool,
    /// Which process this is among those that share the work.
    pub owner: String,
    /// True once the process stops.
    pub stopping: watch::Receiver<bool>,
    /// Told once the dispatcher has settled or given up all that it had claimed.
    pub drained: Arc<watch::Sender<bool>>,
}

impl OrderContext {
    fn poll(&self) -> Duration {
        if self.bus.is_shared() { POLL_SHARED } else { POLL }
    }
}

/// True if no order that can end without a person is on its way: all are on the bus, read from it, and delivered or failed.
/// Those that are held by the plugin's switch or eligibility, or for want of `orders.url`, are not waited for.
///
/// # Errors
/// Faults of store and bus: it is not known.
pub async fn are_settled(store: &Store, bus: &dyn Bus, control: &Control, url_is_set: bool) -> Result<bool, String> {
    let text = |error: StoreError| error.to_string();
    let (unpublished, undelivered) = store.orders_under_way().await.map_err(text)?;
    let delivers = url_is_set && control.snapshot().is_active::<OrderDelivery>();
    if unpublished > 0 || (delivers && undelivered > 0) {
        return Ok(false);
    }
    let rows = store.partitions().await.map_err(text)?;
    for partition in 0..Topic::OrderCreated.partitions(bus.partitions()) {
        let place = TopicPartition::new(Topic::OrderCreated, partition);
        let bounds = bus.bounds(place).await.map_err(|error: BusError| error.to_string())?;
        let next = rows.iter().find(|row| row.partition == place).map_or(0, |row| row.next_offset);
        if bounds.high > next.max(bounds.low) {
            return Ok(false);
        }
    }
    // What was read from the bus meanwhile is on its way again.
    let (_, undelivered) = store.orders_under_way().await.map_err(text)?;
    Ok(!delivers || undelivered == 0)
}
