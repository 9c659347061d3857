//! Owns the bus consumer and the partition assignment; hands batches to shards, a fixed number in flight for each.
//!
//! That fixed number is the only backpressure: nothing is read that no shard has room for. Whatever a shard reports,
//! this decides what happens next: go on, begin again from the last commit, or narrow the batch down to a culprit.

mod closing;
mod lanes;
mod shards;
mod ticks;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use super::shard::{CommitReport, ShardContext, ShardFault};
use super::supervisor::Crashes;
use crate::bus::{BusError, Consumer, ConsumerEvent};
use closing::Closing;
use lanes::Lanes;
use shards::{Sent, Shards};
use ticks::Ticks;

/// How often ticks, clocks and the end of the work are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// How long batches in flight may take to finish on shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// Taking partitions over may last so long before the process counts as not ready.
const TAKING_OVER: Duration = Duration::from_secs(2);
/// The part of the process that this is, where readiness is told.
const PART: &str = "processor";

const NOT_A_MEMBER: &str = "the bus has not let this process into its group yet; wait some seconds, then look at the bus \
                            and at bus.group";
const NOT_TAKEN: &str =
    "partitions are still being taken over; wait some seconds, then look at the store and at the log";

/// How ingress works.
#[derive(Clone)]
pub struct IngressOptions {
    /// Threads that apply events.
    pub shards: usize,
    /// Bytes that one batch of a shard holds, about.
    pub batch_bytes_max: usize,
    /// Finish everything that is on the bus and what follows from it, then say so.
    pub until_caught_up: bool,
    /// Orders have a third party to go to: being caught up means that they have ended.
    pub sends_orders: bool,
}

/// What ingress tells the rest of the process.
#[derive(Clone)]
pub struct IngressSignals {
    /// Turns true when the process should stop.
    pub stop: watch::Receiver<bool>,
    /// Set to true once everything is caught up.
    pub caught_up: Arc<watch::Sender<bool>>,
    /// When the first record was read and the last batch was committed.
    pub span: Arc<watch::Sender<Option<(Instant, Instant)>>>,
}

/// How one batch ended.
struct Ended {
    sent: Sent,
    result: Result<CommitReport, ShardFault>,
}

struct Ingress {
    context: ShardContext,
    options: IngressOptions,
    signals: IngressSignals,
    consumer: Box<dyn Consumer>,
    lanes: Lanes,
    shards: Shards,
    ticks: Ticks,
    closing: Option<Closing>,
    /// The group has let this process in, with whatever partitions.
    is_member: bool,
    /// Since when some shard that has partitions does not run.
    down_since: Option<Instant>,
    /// What was told last of being ready.
    unready: Option<&'static str>,
    in_flight: FuturesUnordered<LocalBoxFuture<'static, Ended>>,
}

/// Runs until told to stop.
///
/// # Errors
/// If the bus fails in a way that a fresh start may cure.
pub async fn run(
    context: ShardContext,
    options: IngressOptions,
    signals: IngressSignals,
    crashes: Crashes,
) -> Result<(), String> {
    let status = Arc::clone(&context.status);
    status.set_unready(PART, Some(NOT_A_MEMBER.to_owned()));
    let consumer = context.bus.consumer().map_err(|error| {
        status.set_unready(PART, Some(format!("{error}; trying again")));
        error.to_string()
    })?;
    let shards = Shards::new(context.clone(), options.shards, crashes);
    let mut ingress = Ingress {
        lanes: Lanes::new(context.bus.partitions()),
        shards,
        ticks: Ticks::new(Arc::clone(&context.bus)),
        closing: options.until_caught_up.then(Closing::default),
        is_member: false,
        down_since: None,
        unready: Some(NOT_A_MEMBER),
        in_flight: FuturesUnordered::new(),
        consumer,
        context,
        options,
        signals,
    };
    let result = ingress.serve().await.map_err(|error| error.to_string());
    ingress.drain().await;
    ingress.shards.stop();
    ingress.consumer.leave().await;
    if let Err(error) = &result {
        status.set_unready(PART, Some(format!("{error}; trying again")));
    }
    result
}

impl Ingress {
    async fn serve(&mut self) -> Result<(), BusError> {
        let mut stop = self.signals.stop.clone();
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let next_batch = self.shards.next_at();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                Some(ended) = self.in_flight.next(), if !self.in_flight.is_empty() => self.ended(ended),
                event = self.consumer.next() => self.assignment(event?),
                _ = housekeeping.tick() => self.keep_house().await?,
                () = tokio::time::sleep_until(next_batch.unwrap_or_else(Instant::now).into()), if next_batch.is_some() => {}
            }
            self.shards.start_due(&mut self.lanes).await;
            self.feed_shards().await?;
        }
    }

    fn assignment(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned(partitions) => {
                tracing::info!(?partitions, "partitions assigned");
                self.is_member = true;
                self.shards.assign(&partitions, &mut self.lanes);
            }
            ConsumerEvent::Revoked(partitions) => {
                tracing::info!(?partitions, "partitions revoked");
                self.shards.revoke(&partitions, &mut self.lanes);
            }
            ConsumerEvent::Ready => self.lanes.mark_news(),
        }
    }

    /// Gives every shard that has room what there is to read for it.
    async fn feed_shards(&mut self) -> Result<(), BusError> {
        self.lanes.read_clocks(&self.context.status);
        self.shards.end_waits();
        for shard in 0..self.shards.len() {
            while self.shards.has_room(shard) {
                let bytes_max = self.options.batch_bytes_max.min(self.shards.bytes_max(shard));
                let bounds = (bytes_max, self.shards.records_max(shard));
                let first: Vec<_> = self.shards.narrowing(shard).collect();
                let started = Instant::now();
                let fetched = self.lanes.fetch(shard, &mut *self.consumer, bounds, &first).await?;
                self.context.status.stages.read.add_since(started);
                if fetched.is_empty() {
                    break;
                }
                self.note_read();
                let batch = self.shards.send(shard, fetched);
                self.track(batch);
            }
        }
        Ok(())
    }

    fn track(&mut self, (sent, result): (Sent, LocalBoxFuture<'static, Result<CommitReport, ShardFault>>)) {
        self.lanes.sent(&sent.places);
        self.in_flight.push(Box::pin(async move { Ended { sent, result: result.await } }));
    }

    fn ended(&mut self, Ended { sent, result }: Ended) {
        if !self.shards.is_current(&sent) {
            return;
        }
        match result {
            Ok(report) => {
                self.lanes.committed(&sent.places);
                self.lanes.reported(sent.shard, &report);
                self.shards.committed(&sent, &report);
                let now = Instant::now();
                self.signals.span.send_modify(|span| {
                    if let Some((_, last)) = span {
                        *last = now;
                    }
                });
            }
            Err(fault) => self.shards.failed(&sent, &fault, &mut self.lanes),
        }
    }

    fn note_read(&self) {
        self.signals.span.send_if_modified(|span| {
            let first = span.is_none();
            if first {
                *span = Some((Instant::now(), Instant::now()));
            }
            first
        });
    }

    /// Tells whether events are being processed as far as it depends on this process.
    fn tell_readiness(&mut self) {
        if self.shards.all_up() {
            self.down_since = None;
        }
        let unready = if !self.is_member {
            Some(NOT_A_MEMBER)
        } else if !self.shards.all_up() && self.down_since.get_or_insert_with(Instant::now).elapsed() > TAKING_OVER {
            Some(NOT_TAKEN)
        } else {
            None
        };
        if unready != self.unready {
            self.unready = unready;
            self.context.status.set_unready(PART, unready.map(ToOwned::to_owned));
        }
    }

    async fn keep_house(&mut self) -> Result<(), BusError> {
        if let Some((shard, place)) = self.lanes.fenced(&self.context.status) {
            self.shards.fenced(shard, place, &mut self.lanes);
        }
        self.tell_readiness();
        self.lanes.read_clocks(&self.context.status);
        for shard in self.shards.idle() {
            // Clocks that no chunk has told yet go out even if nothing else is to be done.
            if self.lanes.has_untold_clock(shard) {
                let batch = self.shards.send(shard, Vec::new());
                self.track(batch);
            }
        }
        if self.in_flight.is_empty()
            && self.shards.all_up()
            && let Some(closing) = &mut self.closing
        {
            if closing.advance(&self.context, &mut self.lanes, self.options.sends_orders).await? {
                self.closing = None;
                self.signals.caught_up.send_replace(true);
                return Ok(());
            }
            // Where not everything is read yet, others may wait for a partition that stands at its end: only a tick moves it.
            if self.lanes.all_at_end() {
                return Ok(());
            }
        }
        let moving = self.context.status.totals.events.get();
        self.ticks.keep_time(&mut self.lanes, moving).await;
        Ok(())
    }

    async fn drain(&mut self) {
        let finish = async {
            while let Some(ended) = self.in_flight.next().await {
                self.ended(ended);
            }
        };
        if tokio::time::timeout(DRAIN, finish).await.is_err() {
            tracing::warn!("stopped before the last batches were committed; the bus repeats them at the next start");
        }
    }
}

#[cfg(test)]
mod tests;
