//! `--until-caught-up`: when everything is read, move every partition to the present, wait for all that follows, stop.

use super::lanes::Lanes;
use super::ticks;
use crate::actors::shard::ShardContext;
use crate::bus::{BusError, Topic};
use crate::delivery::orders;
use crate::time::Timestamp;

/// How far the end has come.
#[derive(Debug, Default)]
pub(super) struct Closing {
    present: Option<Timestamp>,
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
        {
            return Ok(false);
        }
        let Some(present) = self.present else {
            let present = Timestamp::now().max(lanes.highest_clock().plus_millis(1));
            for (place, lane) in lanes.sources() {
                lane.tick = Some(ticks::append(&*context.bus, place, present).await?);
            }
            lanes.mark_news();
            self.present = Some(present);
            return Ok(false);
        };
        Ok(lanes.iter().all(|(_, lane)| lane.clock >= present))
    }
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
