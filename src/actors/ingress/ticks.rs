//! Ticks: how time moves on where no till says anything. A tick is on the log, so it is the same time for everybody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::lanes::Lanes;
use crate::bus::{Bus, BusError, NewRecord, Topic, TopicPartition};
use crate::event::{EventType, NewEvent};
use crate::pipeline::source::content_type;
use crate::time::Timestamp;

/// A partition that is read to its end follows the highest clock once it is this far behind.
const BEHIND_MS: i64 = 1000;
/// How often time moves on where all partitions stand still, and
const STANDSTILL: Duration = Duration::from_secs(10);
/// how often once nothing has come for [`QUIET_AFTER`]: an idle shop must not fill its disk.
const STANDSTILL_QUIET: Duration = Duration::from_mins(1);
const QUIET_AFTER: Duration = Duration::from_mins(5);

/// Source of everything that Tillstream itself puts on the bus.
const SOURCE: &str = "/plugins/tillstream";

/// Decides when to append ticks.
pub(super) struct Ticks {
    bus: Arc<dyn Bus>,
    events: u64,
    last_event: Instant,
    last_moved: Instant,
    highest: Timestamp,
}

impl Ticks {
    /// Time begins now.
    pub(super) fn new(bus: Arc<dyn Bus>) -> Self {
        let now = Instant::now();
        Self { bus, events: 0, last_event: now, last_moved: now, highest: Timestamp::MIN }
    }

    /// Appends the ticks that are due. `events` counts what tills have sent.
    pub(super) async fn keep_time(&mut self, lanes: &mut Lanes, events: u64) {
        let now = Instant::now();
        if events != self.events {
            self.events = events;
            self.last_event = now;
        }
        let highest = lanes.highest_clock();
        if highest > self.highest {
            self.highest = highest;
            self.last_moved = now;
        }
        if highest == Timestamp::MIN {
            return;
        }
        let pause = if self.last_event.elapsed() > QUIET_AFTER { STANDSTILL_QUIET } else { STANDSTILL };
        let stood = self.last_moved.elapsed();
        let still = stood >= pause && lanes.iter().all(|(_, lane)| lane.at_end && lane.in_flight == 0);
        let by = i64::try_from(stood.as_millis()).unwrap_or(i64::MAX);
        let time = if still { highest.plus_millis(by) } else { highest };
        for (place, lane) in lanes.sources() {
            let idle = lane.at_end && !lane.news && lane.in_flight == 0 && lane.tick.is_none();
            if idle && time.millis_since(lane.clock) >= BEHIND_MS {
                match append(&*self.bus, place, time).await {
                    Ok(offset) => lane.tick = Some(offset),
                    Err(error) => {
                        tracing::debug!(%error, %place, "no tick; the next attempt follows");
                        return;
                    }
                }
            }
        }
        if still {
            self.last_moved = now;
        }
    }
}

/// Appends a tick and returns its offset.
///
/// # Errors
/// If the bus does not take it.
pub(super) async fn append(bus: &dyn Bus, place: TopicPartition, time: Timestamp) -> Result<i64, BusError> {
    let id = format!("tick-{}-{}", place.partition, time.as_millis());
    let record = NewRecord {
        topic: Topic::Events,
        partition: Some(place.partition),
        key: None,
        value: NewEvent::new(&id, SOURCE, EventType::Tick, time, json!({})).to_bytes(),
        headers: vec![content_type()],
    };
    let offsets = bus.append(vec![record]).await?;
    Ok(offsets.first().copied().unwrap_or_default())
}
