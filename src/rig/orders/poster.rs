//! Posts orders at a pace, by a bounded number of clients at a time, and adds up what they were told.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::client::{Outcome, Posted};
use super::{Client, Order, OrderLog, Orders};

/// Orders that fell due while all clients were busy are caught up with for as long as this; then the pace begins anew.
const LAG_MAX: Duration = Duration::from_secs(5);
/// The longest time that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// How many, how fast, by how many at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Orders a second.
    pub rate: f64,
    /// Orders in all; `None`: until it is told to stop.
    pub limit: Option<u64>,
    /// Orders that may be under way at a time.
    pub clients: usize,
}

/// What became of the orders.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Accepted, replays included.
    pub accepted: u64,
    /// Accepted by a request whose answer was lost, and told so on a later one.
    pub replayed: u64,
    /// Requests beyond the first of each order.
    pub retried: u64,
    /// Refused for good.
    pub refused: u64,
    /// Given up under way: nobody knows what became of them.
    pub unknown: u64,
    /// The first refusal.
    pub first_refusal: Option<String>,
    /// From the first request of an order to the answer that counted, in microseconds.
    pub latency_us: Histogram<u64>,
}

impl Summary {
    fn new() -> Self {
        let latency_us = Histogram::new_with_max(LATENCY_MAX_US, 3).expect("bounds that fit");
        Self { accepted: 0, replayed: 0, retried: 0, refused: 0, unknown: 0, first_refusal: None, latency_us }
    }

    fn add(&mut self, posted: &Posted) {
        self.retried += u64::from(posted.attempts - 1);
        let micros = u64::try_from(posted.took.as_micros()).unwrap_or(LATENCY_MAX_US);
        self.latency_us.saturating_record(micros);
        match &posted.outcome {
            Outcome::Accepted { replayed, .. } => {
                self.accepted += 1;
                self.replayed += u64::from(*replayed);
            }
            Outcome::Refused { status, reason } => {
                self.refused += 1;
                self.first_refusal.get_or_insert_with(|| format!("{status}: {reason}"));
            }
        }
    }

    /// Orders whose end is known.
    #[must_use]
    pub const fn answered(&self) -> u64 {
        self.accepted + self.refused
    }
}

/// Posts orders until the limit, or until `stop` says when those that are still under way are to be given up.
///
/// # Errors
/// If the log cannot be written.
pub async fn post_orders(
    orders: Orders,
    client: Client,
    plan: Plan,
    mut log: Option<OrderLog>,
    mut stop: watch::Receiver<Option<Instant>>,
    mut progress: impl FnMut(&Summary),
) -> io::Result<Summary> {
    let mut summary = Summary::new();
    let mut numbered = (0..plan.limit.unwrap_or(u64::MAX)).zip(orders).peekable();
    // What is known of an order when it is given up: its future is gone then.
    let mut under_way = BTreeMap::new();
    let mut answers = FuturesUnordered::new();
    let mut pace = Pace::new(plan.rate);
    let mut may_be_stopped = true;
    loop {
        let give_up_at = *stop.borrow_and_update();
        if give_up_at.is_some_and(|at| at <= Instant::now()) {
            break;
        }
        let has_next = give_up_at.is_none() && numbered.peek().is_some();
        if !has_next && under_way.is_empty() {
            break;
        }
        let due = (has_next && under_way.len() < plan.clients.max(1)).then(|| pace.due());
        let wake_at = due.or(give_up_at);
        tokio::select! {
            Some((number, posted)) = answers.next(), if !under_way.is_empty() => {
                summary.add(&posted);
                if let (Some(order), Some(log)) = (under_way.remove(&number), &mut log) {
                    log.write(&order, Some(&posted))?;
                }
                progress(&summary);
            }
            changed = stop.changed(), if may_be_stopped => may_be_stopped = changed.is_ok(),
            () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {
                if due.is_some_and(|due| due <= Instant::now()) && let Some((number, order)) = numbered.next() {
                    pace.advance();
                    answers.push(place(&client, number, order.clone()));
                    under_way.insert(number, order);
                }
            }
        }
    }
    summary.unknown = u64::try_from(under_way.len()).unwrap_or(u64::MAX);
    if let Some(log) = &mut log {
        for order in under_way.values() {
            log.write(order, None)?;
        }
        log.flush()?;
    }
    Ok(summary)
}

async fn place(client: &Client, number: u64, order: Order) -> (u64, Posted) {
    (number, client.place(&order).await)
}

/// When the next order is due.
struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self { interval: Duration::from_secs_f64(1.0 / rate), next: Instant::now() }
    }

    fn due(&mut self) -> Instant {
        if self.next.elapsed() > LAG_MAX {
            self.next = Instant::now();
        }
        self.next
    }

    fn advance(&mut self) {
        self.next += self.interval;
    }
}
