//! Writes orders down, many requests in one transaction, each once for its key.
//!
//! A request whose key is at work is told so at once: the keys at work are known in memory, so a process that dies blocks
//! none. Between processes the unique key in the database decides, and the one that comes second reads what the first
//! was answered. The first request that finds nobody writing becomes the leader: it writes its own order and all that
//! have come meanwhile, until none is left. A client that goes away changes nothing of that.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::OrderSignals;
use super::order::{OrderRequest, accepted, fingerprint, new_id, to_json};
use crate::event::stable_id;
use crate::status::Counter;
use crate::store::{Acceptance, NewOrder, Store, StoreError};
use crate::time::Timestamp;

/// Orders in one transaction.
const GROUP_MAX: usize = 500;
/// Requests that may wait for the transaction under way.
const WAITING_MAX: usize = 10_000;
/// A caller is not kept waiting longer than this; its order may be accepted all the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// The order is on disk; the answer's body.
    New {
        /// The order's id.
        order_id: String,
        /// The body.
        answer: String,
    },
    /// The same order was accepted under this key before; what was answered then.
    Replayed {
        /// The order's id.
        order_id: String,
        /// The HTTP status.
        status: u16,
        /// The body.
        answer: String,
    },
}

/// Why a caller's order was not accepted by this request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AcceptError {
    /// A request with this key is at work.
    #[error("a request with this Idempotency-Key is at work; send it again in a moment for its answer")]
    Running,
    /// The key stands for another order.
    #[error("this Idempotency-Key was used for another order; use a new one for each order")]
    OtherOrder,
    /// The store is away, or there is more to do than it can do. The same request may be sent again.
    #[error("{0}")]
    Unavailable(String),
    /// The store will not take this order.
    #[error("{0}")]
    Refused(String),
}

/// Figures of the order API since the process started.
#[derive(Debug, Default)]
pub struct AcceptFigures {
    /// Orders that were accepted.
    pub accepted: Counter,
    /// Requests that were answered from what an earlier one was told.
    pub replayed: Counter,
    /// Transactions.
    pub groups: Counter,
}

type Reply = oneshot::Sender<Result<Accepted, AcceptError>>;

struct Waiting {
    order: NewOrder,
    reply: Reply,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Somebody writes, and will look at `waiting` again.
    led: bool,
    /// Keys at work, those that wait included.
    running: HashSet<String>,
}

/// Accepts orders.
pub struct Acceptor {
    store: Store,
    signals: OrderSignals,
    keep_keys: Duration,
    queue: Mutex<Queue>,
    /// What it has done.
    pub figures: AcceptFigures,
    /// How many orders were accepted lately.
    pub rate: Rate,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("figures", &self.figures).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// An acceptor that keeps keys for `keep_keys`.
    #[must_use]
    pub fn new(store: Store, signals: OrderSignals, keep_keys: Duration) -> Arc<Self> {
        Arc::new(Self {
            store,
            signals,
            keep_keys,
            queue: Mutex::default(),
            figures: AcceptFigures::default(),
            rate: Rate::default(),
        })
    }

    /// Keys that were first used before this have been forgotten.
    #[must_use]
    pub fn expired_before(&self) -> Timestamp {
        Timestamp::now().plus_millis(-i64::try_from(self.keep_keys.as_millis()).unwrap_or(i64::MAX))
    }

    /// Accepts an order under a key, once for each caller. Returns when it is on disk.
    ///
    /// # Errors
    /// Why not; nothing is lost by sending the same again. Must be called inside a tokio runtime.
    pub async fn accept(
        self: &Arc<Self>,
        caller: &str,
        key: &str,
        order: &OrderRequest,
    ) -> Result<Accepted, AcceptError> {
        let (reply, answer) = oneshot::channel();
        if self.enqueue(Waiting { order: new_order(caller, key, order), reply })? {
            tokio::spawn(Arc::clone(self).lead());
        }
        let unknown =
            || AcceptError::Unavailable("the store does not answer; the same request may be sent again".to_owned());
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(unknown()),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the caller is to lead.
    fn enqueue(&self, waiting: Waiting) -> Result<bool, AcceptError> {
        let mut queue = self.queue();
        if queue.waiting.len() >= WAITING_MAX {
            return Err(AcceptError::Unavailable("too many orders wait to be written; try again later".to_owned()));
        }
        if !queue.running.insert(waiting.order.key_id.clone()) {
            return Err(AcceptError::Running);
        }
        queue.waiting.push(waiting);
        Ok(!std::mem::replace(&mut queue.led, true))
    }

    /// What the next transaction takes; nothing: the leader's work is done.
    fn next_group(&self) -> Vec<Waiting> {
        let mut queue = self.queue();
        if queue.waiting.len() <= GROUP_MAX {
            let group = std::mem::take(&mut queue.waiting);
            queue.led = !group.is_empty();
            group
        } else {
            queue.waiting.drain(..GROUP_MAX).collect()
        }
    }

    async fn lead(self: Arc<Self>) {
        let mut lead = Lead { acceptor: &self, finished: false };
        loop {
            let group = self.next_group();
            if group.is_empty() {
                lead.finished = true;
                return;
            }
            let (orders, replies): (Vec<_>, Vec<_>) = group.into_iter().map(|one| (one.order, one.reply)).unzip();
            let outcomes = self.write(Arc::new(orders.clone())).await;
            let mut queue = self.queue();
            for order in &orders {
                queue.running.remove(&order.key_id);
            }
            drop(queue);
            for ((order, reply), outcome) in orders.into_iter().zip(replies).zip(outcomes) {
                // A caller that has gone away asks again under the same key.
                let _ = reply.send(self.answer(order, outcome));
            }
        }
    }

    /// Writes a group; if the store refuses one of them, each on its own, so that one fails no other.
    async fn write(&self, orders: Arc<Vec<NewOrder>>) -> Vec<Result<Acceptance, StoreError>> {
        let expired_before = self.expired_before();
        let outcome = self.store.accept_orders(Arc::clone(&orders), expired_before).await;
        self.figures.groups.add(1);
        let outcomes = match outcome {
            Ok(acceptances) => acceptances.into_iter().map(Ok).collect(),
            Err(StoreError::Refused(_)) if orders.len() > 1 => {
                let mut outcomes = Vec::with_capacity(orders.len());
                for order in orders.iter() {
                    let alone = self.store.accept_orders(Arc::new(vec![order.clone()]), expired_before).await;
                    outcomes.push(alone.map(|mut acceptances| acceptances.remove(0)));
                }
                outcomes
            }
            Err(error) => {
                tracing::warn!(%error, orders = orders.len(), "orders could not be written");
                vec![Err(error); orders.len()]
            }
        };
        let new = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Acceptance::New))).count() as u64;
        if new > 0 {
            self.figures.accepted.add(new);
            self.rate.add(new);
            self.signals.accepted.notify_one();
        }
        outcomes
    }

    fn answer(&self, order: NewOrder, outcome: Result<Acceptance, StoreError>) -> Result<Accepted, AcceptError> {
        match outcome {
            Ok(Acceptance::New) => Ok(Accepted::New { order_id: order.id, answer: order.answer }),
            Ok(Acceptance::Replayed { order_id, status, answer }) => {
                self.figures.replayed.add(1);
                Ok(Accepted::Replayed { order_id, status, answer })
            }
            Ok(Acceptance::OtherOrder) => Err(AcceptError::OtherOrder),
            Err(StoreError::Refused(why)) => Err(AcceptError::Refused(why)),
            Err(error) => Err(AcceptError::Unavailable(format!("{error}; the same request may be sent again"))),
        }
    }
}

/// Gives up the lead if the leader is dropped or panics: what it was writing is not known, whoever waits is told so, and
/// the next request leads.
struct Lead<'a> {
    acceptor: &'a Acceptor,
    finished: bool,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if !self.finished {
            *self.acceptor.queue() = Queue::default();
        }
    }
}

fn new_order(caller: &str, key: &str, order: &OrderRequest) -> NewOrder {
    let created_at = Timestamp::now();
    let id = new_id(created_at);
    let document = order.document();
    NewOrder {
        key_id: stable_id(&["idempotency_key", caller, key]),
        caller: caller.to_owned(),
        idempotency_key: key.to_owned(),
        fingerprint: fingerprint(&document),
        store_id: order.store_id.to_string(),
        terminal_id: order.terminal_id.to_string(),
        answer: to_json(&document, accepted(&id, created_at)),
        document,
        created_at,
        id,
    }
}

/// Counts by second, to tell how many there were per second lately.
#[derive(Debug, Default)]
pub struct Rate(Mutex<RateState>);

#[derive(Debug, Default)]
struct RateState {
    began: Option<Instant>,
    /// The second that `counts[0]` belongs to.
    second: u64,
    /// This second, and those before it.
    counts: [u64; RATE_SECONDS + 1],
}

/// Whole seconds that a rate is taken over.
const RATE_SECONDS: usize = 10;

impl Rate {
    fn state(&self) -> MutexGuard<'_, RateState> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began = *state.began.get_or_insert_with(Instant::now);
        let second = began.elapsed().as_secs();
        while state.second < second {
            let behind = second - state.second;
            if behind > RATE_SECONDS as u64 {
                state.counts = [0; RATE_SECONDS + 1];
                state.second = second;
            } else {
                state.counts.copy_within(..RATE_SECONDS, 1);
                state.counts[0] = 0;
                state.second += 1;
            }
        }
        state
    }

    fn add(&self, count: u64) {
        self.state().counts[0] += count;
    }

    /// Per second, over the last ten whole seconds or as many as there have been.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn per_second(&self) -> f64 {
        let state = self.state();
        state.counts[1..].iter().sum::<u64>() as f64 / state.second.clamp(1, RATE_SECONDS as u64) as f64
    }
}

#[cfg(test)]
#[path = "acceptor_tests.rs"]
mod tests;
