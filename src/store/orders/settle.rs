//! What follows from an order's end, and how many may be claimed: decisions about rows, apart from the queries.

use bytes::Bytes;

use super::{ClaimRequest, OrderStatus, Settled, Settlement, StoredOrder};
use crate::bus::{NewRecord, Topic, TopicPartition};
use crate::event::EventType;
use crate::orders::order::{OrderEvent, Progress, created_event, end_id};
use crate::pipeline::source::content_type;
use crate::plugins::Plugin;
use crate::plugins::order_delivery::{self, OrderDelivery};
use crate::store::model::{DeadLetter, DeadLetterStatus};
use crate::time::Timestamp;

/// Attempts that the rate allows but nobody made are kept for this long, in microseconds, so that a turn can send several.
const BURST_MICROS: i64 = 100_000;

/// How many orders may be claimed, and what that does to the shared rate (a generic cell rate algorithm).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) orders: usize,
    /// When the next one may be claimed.
    pub(super) free_at: Timestamp,
    start: i64,
    interval: i64,
}

pub(super) fn allowance(request: ClaimRequest, now_micros: i64, used_until: i64) -> Allowance {
    let free = |micros: i64| Timestamp::from_millis(micros.saturating_add(999) / 1000);
    if request.rate_per_second == 0 {
        return Allowance { orders: request.limit, free_at: free(now_micros), start: now_micros, interval: 0 };
    }
    let interval = 1_000_000 / i64::from(request.rate_per_second);
    let interval = interval.max(1);
    let start = used_until.max(now_micros - interval.max(BURST_MICROS));
    let allowed = usize::try_from((now_micros - start) / interval).unwrap_or(0);
    Allowance { orders: allowed.min(request.limit), free_at: free(start + interval), start, interval }
}

impl Allowance {
    pub(super) fn used_until_after(&self, claimed: usize) -> i64 {
        self.start + self.interval.saturating_mul(i64::try_from(claimed).unwrap_or(i64::MAX))
    }
}

/// `order.delivered` or `order.failed`, and the copy of the dead letter for other consumers.
pub(super) fn ended_records(
    one: &Settled,
    order: &StoredOrder,
    now: Timestamp,
    letter: Option<&DeadLetter>,
) -> Vec<NewRecord> {
    let kind = if order.status == OrderStatus::Success { EventType::OrderDelivered } else { EventType::OrderFailed };
    let id = end_id(kind, &order.id, order.attempts);
    let event = OrderEvent { kind, id: &id, at: now, store_id: &order.store_id, terminal_id: &order.terminal_id };
    let progress = Progress {
        id: &order.id,
        status: order.status,
        created_at: order.created_at,
        // The publisher may not have come round to writing it down.
        published_at: order.published_at.or(Some(one.claimed.delivery.published_at)),
        processed_at: order.processed_at,
        attempts: order.attempts,
    };
    let mut records = vec![NewRecord {
        topic: Topic::Events,
        partition: None,
        key: Some(Bytes::copy_from_slice(order.terminal_id.as_bytes())),
        value: event.to_bytes(&order.document, progress),
        headers: vec![content_type()],
    }];
    records.extend(letter.map(DeadLetter::copy));
    records
}

/// The dead letter of an order that came to nothing.
pub(super) fn ended_letter(one: &Settled, order: &StoredOrder, now: Timestamp) -> Option<DeadLetter> {
    let Settlement::Failed { reason, error } = &one.settlement else { return None };
    let delivery = &one.claimed.delivery;
    Some(failed_letter(order, (delivery.partition, delivery.offset), (reason, error), now))
}

/// The dead letter of a failed order whose record stands at this partition and offset.
pub(super) fn failed_letter(
    order: &StoredOrder,
    (partition, offset): (u32, i64),
    (reason, error): (&str, &str),
    now: Timestamp,
) -> DeadLetter {
    DeadLetter {
        id: order_delivery::dead_letter_id(&order.id),
        at: now,
        status: DeadLetterStatus::Open,
        reason: reason.to_owned(),
        field: None,
        message: format!("{error}; replay it, or POST /api/orders/{}/resend, once the cause is gone", order.id),
        plugin: Some(OrderDelivery::NAME.to_owned()),
        entity: Some(format!("order:{}", order.id)),
        partition: TopicPartition::new(Topic::OrderCreated, partition),
        offset,
        clock: order.created_at,
        key: Some(Bytes::copy_from_slice(order.id.as_bytes())),
        headers: Vec::new(),
        bytes: created_event(order),
        attempts: order.attempts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(rate_per_second: u32) -> ClaimRequest {
        ClaimRequest { limit: 64, claim: 1, lease_ms: 1000, rate_per_second, settings_epoch: 1 }
    }

    #[test]
    fn over_any_second_no_more_than_the_rate_and_a_small_burst_is_claimed() {
        for rate in [1, 5, 50, 1000] {
            let (mut used_until, mut claimed) = (0, 0);
            let start = 1_000_000_000_000_i64;
            for turn in 0..1000 {
                let allowance = allowance(request(rate), start + turn * 1000, used_until);
                used_until = allowance.used_until_after(allowance.orders);
                claimed += allowance.orders;
            }
            let rate = rate as usize;
            assert!((rate..=rate + rate / 10 + 1).contains(&claimed), "{claimed} at {rate} per second");
        }
    }

    #[test]
    fn without_a_rate_only_the_limit_counts() {
        assert_eq!(allowance(request(0), 5_000_000, i64::MAX - 5).orders, 64);
    }

    #[test]
    fn when_the_rate_is_used_up_it_says_until_when() {
        let allowed = allowance(request(2), 10_000_000, 9_900_000);
        assert_eq!((allowed.orders, allowed.free_at.as_millis()), (0, 10_400));
    }
}
