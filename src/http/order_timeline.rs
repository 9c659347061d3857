//! What happened to an order, put together from what is written down and from how things stand.

use super::AppState;
use crate::plugins::order_delivery::OrderDelivery;
use crate::store::{OrderDetail, OrderStatus, TimelineEntry, TimelineKind};
use crate::time::Timestamp;

/// The order's history, oldest first. The last entry of a pending order says what it waits for.
pub(super) fn timeline(detail: &OrderDetail, state: &AppState) -> Vec<TimelineEntry> {
    let order = &detail.order;
    let mut placed = vec![(order.created_at, entry(order.created_at, TimelineKind::Accepted, None))];
    placed.extend(order.published_at.map(|at| (at, entry(at, TimelineKind::Published, None))));
    // Attempts go by the clock of a process, what follows from them by the database's: what was written down later stands later.
    let mut latest = Timestamp::MIN;
    for known in &detail.history {
        latest = latest.max(known.at);
        placed.push((latest, known.clone()));
    }
    if order.status == OrderStatus::Success {
        placed.extend(order.processed_at.map(|at| (latest.max(at), entry(at, TimelineKind::Delivered, None))));
    }
    placed.sort_by_key(|(place, _)| *place);
    let mut entries: Vec<_> = placed.into_iter().map(|(_, entry)| entry).collect();
    if order.status == OrderStatus::Pending {
        entries.push(entry(Timestamp::now(), TimelineKind::Waiting, Some(waits_for(detail, state))));
    }
    entries
}

const fn entry(at: Timestamp, kind: TimelineKind, message: Option<String>) -> TimelineEntry {
    TimelineEntry { at, kind, attempt: None, status: None, duration_ms: None, message }
}

fn waits_for(detail: &OrderDetail, state: &AppState) -> String {
    if let Some(reason) = &detail.parked {
        return format!("the bus refused it: {reason}; it is tried again now and then");
    }
    if state.config.orders.url.is_none() {
        return "orders.url is not configured; set it, and all orders that wait are sent".to_owned();
    }
    if !state.control.snapshot().is_active::<OrderDelivery>() {
        return "order-delivery is switched off; switch it on, and all orders that wait are sent".to_owned();
    }
    match &detail.delivery {
        None if detail.order.published_at.is_none() => "to be put on the bus".to_owned(),
        None => "to be read from the bus".to_owned(),
        Some(delivery) if delivery.held => "order-delivery's eligibility does not let it through".to_owned(),
        Some(delivery) if delivery.claimed => "the answer of the third party".to_owned(),
        Some(delivery) if delivery.next_attempt_at > Timestamp::now() => {
            format!("the next attempt, not before {}", delivery.next_attempt_at)
        }
        Some(_) => "its turn: the third party is away, or takes no more at once".to_owned(),
    }
}
