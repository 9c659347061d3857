//! Orders: what a till asks for, accepted once whatever fails in between.
//!
//! [`order`] reads and checks what a till sends, [`key`] the `Idempotency-Key` that it comes under, [`acceptor`] writes
//! both down, many requests in one transaction, [`logged`] reads both back from the bus after a restore. From there on [`crate::delivery::orders`] carries an order to the bus
//! and to the third party. `docs/orders.md` tells the whole journey.

pub mod acceptor;
pub mod currencies;
pub mod key;
pub mod logged;
pub mod order;

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes the next stage of an order's journey within this process. Whoever runs in another process looks now and then.
#[derive(Debug, Clone, Default)]
pub struct OrderSignals {
    /// Orders were accepted: the publisher has work.
    pub accepted: Arc<Notify>,
    /// Orders were put on the bus: the consumer has work.
    pub published: Arc<Notify>,
    /// Orders are due for the third party: the dispatcher has work.
    pub due: Arc<Notify>,
}
