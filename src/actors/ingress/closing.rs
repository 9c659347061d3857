//! `--until-caught-up`: when everything is read, move every partition to the present, step by step, wait for all that follows,
//! stop.

use super::lanes::Lanes;
use super::ticks;
use crate::actors::shard::ShardContext;
use crate::bus::{BusError, Topic};
use crate::delivery::orders;
use crate::time::Timestamp;

/// Timers that one step of the clock wakes, about: so much of what they ask for is in memory at a time.
const STEP_TIMERS: usize = 10_000;

/// How far the end has come.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// Where the clocks still have to be moved, the last one first; the first of all is the present. `None` until everything
    /// has been read.
    steps: Option<Vec<Timestamp>>,
    /// Where they are on their way to.
    step: Timestamp,
}

impl Closing {
    /// Called while no batch is in flight; true once nothing is left to do.
    pub(super) async fn advance(
        &mut self,
        context: &ShardContext,
        lanes: &mut Lanes,
        sends_orders: bool,
    ) -> Result<bool, BusError> {
        if !lanes.all_at_end()
            || !nothing_pending(context, sends_orders).await
            || !at_end_of_bus(context, lanes).await?
            || lanes.iter().any(|(_, lane)| self.steps.is_some() && lane.clock < self.step)
        {
            return Ok(false);
        }
        if self.steps.is_none() {
            let now = lanes.highest_clock();
            let due = if lanes.owns_all_sources() {
                match context.store.timers_due().await {
                    Ok(due) => due,
                    // The store is away; it is asked again.
                    Err(_) => return Ok(false),
                }
            } else {
                // Others move their partitions to where ours are by and by, not at once.
                Vec::new()
            };
            self.steps = Some(steps(&due, now, Timestamp::now().max(now.plus_millis(1))));
        }
        let Some(step) = self.steps.as_mut().and_then(Vec::pop) else {
            return Ok(true);
        };
        self.step = step;
        for (place, lane) in lanes.sources() {
            lane.tick = Some(ticks::append(&*context.bus, place, step).await?);
        }
        lanes.mark_news();
        Ok(false)
    }
}

/// The way from the clock to the present, the last step first. Timers fire in their order and at their time however large the
/// steps are.
fn steps(due: &[Timestamp], clock: Timestamp, present: Timestamp) -> Vec<Timestamp> {
    let ahead = &due[due.partition_point(|time| *time <= clock)..due.partition_point(|time| *time < present)];
    let mut steps: Vec<Timestamp> = ahead.chunks(STEP_TIMERS).rev().map(|chunk| chunk[chunk.len() - 1]).collect();
    steps.dedup();
    match steps.first_mut() {
        // What is left for the last step is less than a step.
        Some(last) => *last = present,
        None => steps.push(present),
    }
    steps
}

/// True if nothing that was committed waits to be carried out. A call or an order that ends leaves something in the outbox, so
/// the outbox is looked at after them, and the end of the bus after all.
async fn nothing_pending(context: &ShardContext, sends_orders: bool) -> bool {
    let store = &context.store;
    matches!(orders::are_settled(store, &*context.bus, &context.control, sends_orders).await, Ok(true))
        && matches!(store.http_depth().await, Ok(0))
        && matches!(store.outbox_depth().await, Ok(0))
        && matches!(store.alerts_without_evidence(1).await.as_deref(), Ok([]))
}

/// The relay may have appended something that the consumer has not heard of yet.
async fn at_end_of_bus(context: &ShardContext, lanes: &mut Lanes) -> Result<bool, BusError> {
    let mut at_end = true;
    let places: Vec<_> = lanes.iter().map(|(place, lane)| (place, lane.cursor)).collect();
    for (place, cursor) in places {
        if matches!(place.topic, Topic::Events | Topic::Rekeyed) && context.bus.bounds(place).await?.high > cursor {
            at_end = false;
        }
    }
    if !at_end {
        lanes.mark_news();
    }
    Ok(at_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: impl IntoIterator<Item = i64>) -> Vec<Timestamp> {
        seconds.into_iter().map(|second| Timestamp::from_millis(second * 1000)).collect()
    }

    #[test]
    fn the_clock_goes_to_the_present_in_steps_that_wake_so_many_timers_at_most() {
        let count = i64::try_from(STEP_TIMERS).unwrap();
        let (clock, present) = (Timestamp::from_millis(10_000), Timestamp::from_millis(999_999_000));
        let end = |due: &[Timestamp]| steps(due, clock, present);
        assert_eq!(end(&[]), [present]);
        assert_eq!(end(&times([1, 10, 11])), [present], "what is due by now has fired");
        let many = times(11..11 + 2 * count + 5);
        assert_eq!(end(&many), [present, many[2 * STEP_TIMERS - 1], many[STEP_TIMERS - 1]]);
        let at_once = times(std::iter::repeat_n(20, 3 * STEP_TIMERS));
        assert_eq!(end(&at_once), [present], "timers of one time fire together");
        let later = times(2_000_000..2_000_000 + 2 * count);
        assert_eq!(end(&later), [present], "a timer beyond the present waits");
    }
}
