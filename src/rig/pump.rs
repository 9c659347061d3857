//! Carries a rig's messages to a sink: generation on a thread of its own, a bounded number of batches in between, the pace kept
//! by the wall clock where one is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::sinks::{Sink, SinkError};
use super::{Label, MessageKind, Rig, RigMessage};
use crate::time::Timestamp;

/// Messages of one batch, at most.
const BATCH_MESSAGES_MAX: usize = 2000;
/// Batches between generation and sink.
const BATCHES_IN_FLIGHT: usize = 4;
/// Shorter waits than this are not worth a batch of their own.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// A sender held up for longer goes on with the present instead of catching up.
const LAG_MAX: Duration = Duration::from_secs(5);

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Distinct valid events.
    pub events: u64,
    /// Duplicates.
    pub duplicates: u64,
    /// Corrupt copies.
    pub corrupt: u64,
    /// Labels written.
    pub labels: u64,
}

/// How fast to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// As fast as the sink takes it.
    Unlimited,
    /// Events per second. `present` says whether event times follow the wall clock.
    PerSecond {
        /// The rate.
        rate: f64,
        /// True if a sender that was held up goes on with the present time.
        present: bool,
    },
}

#[derive(Debug, Default)]
struct Batch {
    messages: Vec<RigMessage>,
    labels: Vec<Label>,
}

/// Why carrying ended early.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// The sink cannot go on.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The labels cannot be written.
    #[error("the labels cannot be written: {0}")]
    Labels(std::io::Error),
}

/// Sends everything that `rig` gives, until it ends or `stop` is set; then what is under way still arrives.
///
/// # Errors
/// If the sink or the labels file fails for good.
pub async fn pump(
    rig: Rig,
    speed: Speed,
    sink: &mut Sink,
    mut labels: Option<impl std::io::Write>,
    stop: Arc<AtomicBool>,
    mut progress: impl FnMut(Totals),
) -> Result<Totals, PumpError> {
    let (sender, mut batches) = mpsc::channel(BATCHES_IN_FLIGHT);
    let generating = tokio::task::spawn_blocking(move || generate(rig, speed, &stop, &sender));
    let mut totals = Totals::default();
    while let Some(Batch { messages, labels: told }) = batches.recv().await {
        for message in &messages {
            match message.kind {
                MessageKind::Event => totals.events += 1,
                MessageKind::Duplicate => totals.duplicates += 1,
                MessageKind::Corrupt => totals.corrupt += 1,
            }
        }
        if !messages.is_empty() {
            sink.send(messages).await?;
        }
        if let Some(file) = &mut labels {
            for label in &told {
                serde_json::to_writer(&mut *file, label).map_err(|error| PumpError::Labels(error.into()))?;
                file.write_all(b"\n").map_err(PumpError::Labels)?;
                totals.labels += 1;
            }
        }
        progress(totals);
    }
    if let Some(file) = &mut labels {
        file.flush().map_err(PumpError::Labels)?;
    }
    // The thread has ended: it gave up its sender.
    let _ = generating.await;
    Ok(totals)
}

fn generate(mut rig: Rig, speed: Speed, stop: &AtomicBool, sender: &mpsc::Sender<Batch>) {
    let mut clock = Clock::new(speed);
    let mut batch = Batch::default();
    while let Some(message) = rig.next() {
        if stop.load(Ordering::Relaxed) {
            rig.stop();
        } else if message.kind == MessageKind::Event
            && let Some(pause) = clock.pause(&mut rig)
        {
            if !hand_over(&mut batch, &mut rig, sender) {
                return;
            }
            std::thread::sleep(pause);
        }
        batch.messages.push(message);
        if batch.messages.len() >= BATCH_MESSAGES_MAX && !hand_over(&mut batch, &mut rig, sender) {
            return;
        }
    }
    hand_over(&mut batch, &mut rig, sender);
}

/// False if nobody takes batches any more.
fn hand_over(batch: &mut Batch, rig: &mut Rig, sender: &mpsc::Sender<Batch>) -> bool {
    batch.labels.extend(rig.take_labels());
    if batch.messages.is_empty() && batch.labels.is_empty() {
        return true;
    }
    sender.blocking_send(std::mem::take(batch)).is_ok()
}

struct Clock {
    speed: Speed,
    since: Instant,
    events: u64,
}

impl Clock {
    fn new(speed: Speed) -> Self {
        Self { speed, since: Instant::now(), events: 0 }
    }

    /// How long to wait before the next event is sent.
    fn pause(&mut self, rig: &mut Rig) -> Option<Duration> {
        let Speed::PerSecond { rate, present } = self.speed else { return None };
        #[expect(clippy::cast_precision_loss, reason = "good for 2^52 events")]
        let due = Duration::from_secs_f64(self.events as f64 / rate);
        self.events += 1;
        let elapsed = self.since.elapsed();
        if present && elapsed > due + LAG_MAX {
            rig.restart_time_at(Timestamp::now());
            *self = Self { speed: self.speed, since: Instant::now(), events: 0 };
            return None;
        }
        due.checked_sub(elapsed).filter(|pause| *pause >= PAUSE_MIN)
    }
}
