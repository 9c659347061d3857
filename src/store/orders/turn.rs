//! A dispatcher's turn: one transaction that writes down what became of orders that it had claimed, and claims others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::claims::HELD;
use super::read::OrderRow;
use super::settle::{ended_letter, ended_records};
use super::timeline::NewTimelineRow;
use super::{ClaimRequest, OrderStatus, Settled, Settlement, StoredOrder, TimelineKind, Turn};
use crate::store::Store;
use crate::store::connection::{ROWS_PER_STATEMENT, on, queries};
use crate::store::model::StoreError;
use crate::store::outbox::lane;
use crate::store::schema::{order_counts, order_deliveries, order_timeline, orders};
use crate::time::Timestamp;

impl Store {
    /// One turn of a dispatcher in one transaction: writes down what became of orders that it had claimed, and claims
    /// others. What is due is claimed in the order in which it fell due.
    ///
    /// # Errors
    /// Only faults of the store. Calling again with the same arguments is safe.
    pub async fn order_turn(
        &self,
        settled: Arc<Vec<Settled>>,
        claim: Option<ClaimRequest>,
    ) -> Result<Turn, StoreError> {
        let tries = AtomicU32::new(0);
        self.write(move |database| {
            let is_again = tries.fetch_add(1, Ordering::Relaxed) > 0;
            on!(database, turn(&settled, claim, is_again))
        })
        .await
    }
}

/// Milliseconds since 1970, so long after a time.
fn after(now: Timestamp, wait: Duration) -> i64 {
    now.as_millis().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2))
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn turn(
        db: &mut Db,
        settled: &[Settled],
        claim: Option<ClaimRequest>,
        is_again: bool,
    ) -> Result<Turn, StoreError> {
        db.transaction(|db| {
            let now = queries::leases::timestamp(db)?;
            let ended = settle(db, settled, now)?;
            let mut turn = match claim {
                // The try before may have claimed some, and its answer was lost.
                Some(request) if is_again => match queries::orders::claims::claimed_before(db, request, now)? {
                    before if before.claimed.is_empty() => queries::orders::claims::claim_due(db, request, now)?,
                    before => before,
                },
                Some(request) => queries::orders::claims::claim_due(db, request, now)?,
                None => Turn::default(),
            };
            turn.ended = ended;
            Ok(turn)
        })
    }

    /// The deliveries that are still there, with the mark of whoever has claimed them.
    fn live(db: &mut Db, settled: &[Settled]) -> Result<HashMap<String, Option<i64>>, StoreError> {
        let mut live = HashMap::new();
        for chunk in settled.chunks(ROWS_PER_STATEMENT) {
            let ids: Vec<&str> = chunk.iter().map(|one| one.claimed.order.id.as_str()).collect();
            // Touching the rows takes their locks: what is read below holds until the end of the transaction.
            if dialect::HAS_SEVERAL_WRITERS {
                diesel::update(order_deliveries::table.filter(order_deliveries::order_id.eq_any(&ids)))
                    .set(order_deliveries::attempts.eq(order_deliveries::attempts + 0))
                    .execute(db)?;
            }
            let rows: Vec<(String, Option<i64>)> = order_deliveries::table
                .filter(order_deliveries::order_id.eq_any(&ids))
                .select((order_deliveries::order_id, order_deliveries::claim))
                .load(db)?;
            live.extend(rows);
        }
        Ok(live)
    }

    /// Writes down what became of orders; answers which of them have ended.
    fn settle(db: &mut Db, settled: &[Settled], now: Timestamp) -> Result<Vec<String>, StoreError> {
        if settled.is_empty() {
            return Ok(Vec::new());
        }
        let live = live(db, settled)?;
        // A delivery counts whoever made it. Anything else only if the order is still claimed by the one who says so.
        let valid: Vec<&Settled> = settled
            .iter()
            .filter(|one| match (live.get(&one.claimed.order.id), &one.settlement) {
                (None, _) => false,
                (Some(_), Settlement::Delivered) => true,
                (Some(claim), _) => *claim == Some(one.claim),
            })
            .collect();
        let rows: Vec<_> = valid.iter().filter_map(|one| one.timeline_row()).collect();
        for chunk in rows.chunks(ROWS_PER_STATEMENT) {
            let values: Vec<_> = chunk.iter().collect();
            diesel::insert_into(order_timeline::table).values(values).execute(db)?;
        }
        for one in &valid {
            wait(db, one, now)?;
        }
        let ended = |wanted: fn(&Settlement) -> bool| -> Vec<&Settled> {
            valid.iter().copied().filter(|one| wanted(&one.settlement)).collect()
        };
        let delivered = ended(|settlement| matches!(settlement, Settlement::Delivered));
        let failed = ended(|settlement| matches!(settlement, Settlement::Failed { .. }));
        end(db, &delivered, OrderStatus::Success, now)?;
        end(db, &failed, OrderStatus::Failed, now)?;
        Ok(delivered.iter().chain(&failed).map(|one| one.claimed.order.id.clone()).collect())
    }

    /// An order that goes on waiting.
    fn wait(db: &mut Db, one: &Settled, now: Timestamp) -> Result<(), StoreError> {
        let row = order_deliveries::table.find(&one.claimed.order.id);
        let unclaimed = order_deliveries::claim.eq(None::<i64>);
        match &one.settlement {
            Settlement::Delivered | Settlement::Failed { .. } => {}
            Settlement::Released { wait } => {
                diesel::update(row)
                    .set((unclaimed, order_deliveries::next_attempt_at.eq(after(now, *wait))))
                    .execute(db)?;
            }
            Settlement::Held { settings_epoch } => {
                diesel::update(row)
                    .set((
                        unclaimed,
                        order_deliveries::next_attempt_at.eq(HELD),
                        order_deliveries::held_epoch.eq(settings_epoch),
                    ))
                    .execute(db)?;
            }
            Settlement::Retry { wait, counted, error } => {
                let attempts = i32::try_from(one.attempts()).unwrap_or(i32::MAX);
                diesel::update(row)
                    .set((
                        unclaimed,
                        order_deliveries::next_attempt_at.eq(after(now, *wait)),
                        order_deliveries::attempts.eq(attempts),
                        order_deliveries::counted.eq(order_deliveries::counted + i32::from(*counted)),
                        order_deliveries::last_error.eq(error),
                    ))
                    .execute(db)?;
                diesel::update(orders::table.find(&one.claimed.order.id))
                    .set((
                        orders::attempts.eq(attempts),
                        orders::may_have_arrived.eq(one.claimed.may_have_arrived),
                    ))
                    .execute(db)?;
            }
        }
        Ok(())
    }

    /// Orders that have come to their end: the delivery goes, the event and, for those that failed, the dead letter come.
    fn end(db: &mut Db, ended: &[&Settled], status: OrderStatus, now: Timestamp) -> Result<(), StoreError> {
        if ended.is_empty() {
            return Ok(());
        }
        let processed_at = (status == OrderStatus::Success).then(|| now.as_millis());
        for chunk in ended.chunks(ROWS_PER_STATEMENT) {
            let ids: Vec<&str> = chunk.iter().map(|one| one.claimed.order.id.as_str()).collect();
            diesel::delete(order_deliveries::table.filter(order_deliveries::order_id.eq_any(&ids))).execute(db)?;
            let changed = diesel::update(orders::table.filter(orders::id.eq_any(&ids)))
                .set((
                    orders::status.eq(status.as_str()),
                    orders::processed_at.eq(processed_at),
                    orders::attempts.eq(orders::attempts + 1),
                ))
                .execute(db)?;
            if status == OrderStatus::Success {
                count(db, status, i64::try_from(changed).expect("a batch is bounded"))?;
            }
            note_arrivals(db, chunk)?;
            let rows: Vec<OrderRow> = orders::table.filter(orders::id.eq_any(&ids)).load(db)?;
            let mut by_id: HashMap<String, StoredOrder> = HashMap::new();
            for row in rows {
                let id = row.id().to_owned();
                let claimed = chunk.iter().find(|one| one.claimed.order.id == id).map(|one| &one.claimed.order);
                // One that cannot be read any more ends as it was when it was claimed.
                let as_claimed = claimed.map(|order| StoredOrder {
                    status,
                    processed_at: processed_at.map(Timestamp::from_millis),
                    attempts: order.attempts.saturating_add(1),
                    ..order.clone()
                });
                if let Some(order) = row.into_order().ok().or(as_claimed) {
                    by_id.insert(id, order);
                }
            }
            let stored = |one: &Settled| by_id.get(one.claimed.order.id.as_str());
            let mut records = Vec::new();
            let mut letters = Vec::new();
            let mut failures = Vec::new();
            for one in chunk {
                let Some(order) = stored(one) else { continue };
                let letter = ended_letter(one, order, now);
                records.extend(ended_records(one, order, now, letter.as_ref()));
                if let (Some(letter), Settlement::Failed { reason, .. }) = (letter, &one.settlement) {
                    letters.push(letter);
                    failures.push(NewTimelineRow {
                        order_id: &order.id,
                        at: now.as_millis(),
                        kind: TimelineKind::Failed.as_str(),
                        attempt: None,
                        status: None,
                        duration_ms: None,
                        message: Some(reason),
                    });
                }
            }
            if !failures.is_empty() {
                diesel::insert_into(order_timeline::table).values(failures).execute(db)?;
            }
            queries::outbox::append(db, lane::DISPATCH, &records)?;
            queries::dead_letters::replace(db, &letters)?;
        }
        Ok(())
    }

    /// Orders that failed and may have arrived all the same: whoever sends them again must know.
    fn note_arrivals(db: &mut Db, ended: &[&Settled]) -> Result<(), StoreError> {
        let failed = ended.iter().filter(|one| matches!(one.settlement, Settlement::Failed { .. }));
        let unsure = failed.filter(|one| one.claimed.may_have_arrived);
        let ids: Vec<&str> = unsure.map(|one| one.claimed.order.id.as_str()).collect();
        if !ids.is_empty() {
            diesel::update(orders::table.filter(orders::id.eq_any(ids)))
                .set(orders::may_have_arrived.eq(true))
                .execute(db)?;
        }
        Ok(())
    }

    /// Keeps up the number of orders of this status.
    pub(in crate::store) fn count(db: &mut Db, status: OrderStatus, more: i64) -> Result<(), StoreError> {
        diesel::update(order_counts::table.find(status.as_str()))
            .set(order_counts::orders.eq(order_counts::orders + more))
            .execute(db)?;
        Ok(())
    }
}
