//! Claims: which orders a dispatcher may send now.
//!
//! A claim is a lease by the database's clock: it moves the order's next attempt to the lease's end, which its dispatcher moves on while
//! it is at work. So what a dispatcher that died had claimed is due again by itself, soon. Only one turn at a time claims, whatever the number of dispatchers: it holds the row of the rate
//! that they share.

use std::collections::HashMap;
use std::time::Duration;

use super::read::OrderRow;
use super::settle::allowance;
use super::timeline::NewTimelineRow;
use super::{ClaimRequest, ClaimedOrder, OrderDelivery, OrderStatus, StoredOrder, TimelineKind, Turn};
use crate::store::Store;
use crate::store::connection::{ROWS_PER_STATEMENT, on, queries};
use crate::store::model::StoreError;
use crate::store::schema::{order_deliveries, order_dispatch, order_timeline, orders};
use crate::time::Timestamp;

/// How long an order rests that cannot be read.
const UNREADABLE_REST_MS: i64 = 60_000;
/// The only row of `order_dispatch`.
const ROW: i32 = 1;
/// Where orders wait that the plugin's eligibility does not let through.
pub(super) const HELD: i64 = i64::MAX;

#[derive(diesel::Queryable)]
struct DeliveryRow {
    order_id: String,
    partition: i32,
    offset: i64,
    published_at: i64,
    attempts: i32,
    counted: i32,
    claim: Option<i64>,
}

impl Store {
    /// Orders that a dispatcher had claimed are due at once: nobody is at work on them any more.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn release_order_claims(&self) -> Result<usize, StoreError> {
        self.write_repeatable(|database| on!(database, release_claims())).await
    }

    /// A dispatcher is still at work on these orders, under these claims: nobody else gets them for `hold_ms`.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn renew_order_claims(&self, held: Vec<(String, i64)>, hold_ms: i64) -> Result<(), StoreError> {
        self.write_repeatable(move |database| on!(database, due_in(&held, hold_ms))).await
    }

    /// A dispatcher gives up these orders, which it has under these claims. They are due at once; whether its attempts arrived
    /// is not known.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn give_up_order_claims(&self, held: Vec<(String, i64)>) -> Result<(), StoreError> {
        self.write_repeatable(move |database| on!(database, due_in(&held, 0))).await
    }
}

/// How long it is until then.
fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(then.millis_since(now)).unwrap_or(0))
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn claim_due(db: &mut Db, request: ClaimRequest, now: Timestamp) -> Result<Turn, StoreError> {
        release_held(db, request.settings_epoch, now)?;
        let due_from: Option<i64> = order_deliveries::table
            .filter(order_deliveries::next_attempt_at.lt(HELD))
            .select(diesel::dsl::min(order_deliveries::next_attempt_at))
            .first(db)?;
        let Some(due_from) = due_from else { return Ok(Turn::default()) };
        if due_from > now.as_millis() {
            return Ok(Turn { next_due_in: Some(until(Timestamp::from_millis(due_from), now)), ..Turn::default() });
        }
        let now_micros = now.as_millis().saturating_mul(1000);
        // Takes the row's lock before anything is looked at: one turn at a time claims.
        diesel::update(order_dispatch::table.find(ROW))
            .set(order_dispatch::used_until.eq(order_dispatch::used_until + 1))
            .execute(db)?;
        let used_until: i64 = order_dispatch::table.find(ROW).select(order_dispatch::used_until).first(db)?;
        let allowance = allowance(request, now_micros, used_until);
        if allowance.orders == 0 {
            return Ok(Turn { rate_free_in: Some(until(allowance.free_at, now)), ..Turn::default() });
        }
        let rows: Vec<DeliveryRow> = order_deliveries::table
            .filter(order_deliveries::next_attempt_at.le(now.as_millis()))
            .order((order_deliveries::next_attempt_at, order_deliveries::order_id))
            .limit(i64::try_from(allowance.orders).unwrap_or(i64::MAX))
            .select((
                order_deliveries::order_id,
                order_deliveries::partition,
                order_deliveries::offset,
                order_deliveries::published_at,
                order_deliveries::attempts,
                order_deliveries::counted,
                order_deliveries::claim,
            ))
            .load(db)?;
        diesel::update(order_dispatch::table.find(ROW))
            .set(order_dispatch::used_until.eq(allowance.used_until_after(rows.len())))
            .execute(db)?;
        take(db, rows, request, now)
    }

    /// Attempts whose dispatcher is gone: what came of them is not known, and the order may have arrived.
    fn note_lost(db: &mut Db, rows: &mut [DeliveryRow], now: Timestamp) -> Result<(), StoreError> {
        for row in rows.iter_mut().filter(|row| row.claim.is_some()) {
            row.attempts = row.attempts.saturating_add(1);
            diesel::update(order_deliveries::table.find(&row.order_id))
                .set(order_deliveries::attempts.eq(row.attempts))
                .execute(db)?;
            diesel::update(orders::table.find(&row.order_id))
                .set((orders::attempts.eq(row.attempts), orders::may_have_arrived.eq(true)))
                .execute(db)?;
            diesel::insert_into(order_timeline::table)
                .values(NewTimelineRow {
                    order_id: &row.order_id,
                    at: now.as_millis(),
                    kind: TimelineKind::Attempt.as_str(),
                    attempt: Some(row.attempts),
                    status: None,
                    duration_ms: None,
                    message: Some("not known: the process ended during the attempt"),
                })
                .execute(db)?;
        }
        Ok(())
    }

    fn take(
        db: &mut Db,
        mut rows: Vec<DeliveryRow>,
        request: ClaimRequest,
        now: Timestamp,
    ) -> Result<Turn, StoreError> {
        note_lost(db, &mut rows, now)?;
        for chunk in rows.chunks(ROWS_PER_STATEMENT) {
            let ids: Vec<&str> = chunk.iter().map(|row| row.order_id.as_str()).collect();
            diesel::update(order_deliveries::table.filter(order_deliveries::order_id.eq_any(&ids)))
                .set((
                    order_deliveries::claim.eq(request.claim),
                    order_deliveries::next_attempt_at.eq(now.as_millis().saturating_add(request.lease_ms)),
                ))
                .execute(db)?;
        }
        with_orders(db, rows, now)
    }

    /// What an earlier try of a turn has claimed.
    pub(in crate::store) fn claimed_before(
        db: &mut Db,
        request: ClaimRequest,
        now: Timestamp,
    ) -> Result<Turn, StoreError> {
        let rows: Vec<DeliveryRow> = order_deliveries::table
            .filter(order_deliveries::claim.eq(request.claim))
            .select((
                order_deliveries::order_id,
                order_deliveries::partition,
                order_deliveries::offset,
                order_deliveries::published_at,
                order_deliveries::attempts,
                order_deliveries::counted,
                order_deliveries::claim,
            ))
            .load(db)?;
        with_orders(db, rows, now)
    }

    fn with_orders(db: &mut Db, rows: Vec<DeliveryRow>, now: Timestamp) -> Result<Turn, StoreError> {
        let mut by_id: HashMap<String, (StoredOrder, bool)> = HashMap::new();
        let mut unreadable = Vec::new();
        for chunk in rows.chunks(ROWS_PER_STATEMENT) {
            let ids: Vec<&str> = chunk.iter().map(|row| row.order_id.as_str()).collect();
            let found: Vec<OrderRow> = orders::table.filter(orders::id.eq_any(&ids)).load(db)?;
            for row in found {
                let (id, may_have_arrived) = (row.id().to_owned(), row.may_have_arrived);
                match row.into_order() {
                    Ok(order) if order.status == OrderStatus::Pending => {
                        by_id.insert(id, (order, may_have_arrived));
                    }
                    // It has ended: whatever brought its delivery back, nothing is sent again.
                    Ok(_) => {
                        diesel::delete(order_deliveries::table.find(id)).execute(db)?;
                    }
                    Err(error) => unreadable.push((id, error.to_string())),
                }
            }
        }
        let rests_until = now.as_millis().saturating_add(UNREADABLE_REST_MS);
        for (id, why) in &unreadable {
            diesel::update(order_deliveries::table.find(id))
                .set((
                    order_deliveries::claim.eq(None::<i64>),
                    order_deliveries::next_attempt_at.eq(rests_until),
                    order_deliveries::last_error.eq(why),
                ))
                .execute(db)?;
        }
        let claimed = rows.into_iter().filter_map(|row| {
            let (order, may_have_arrived) = by_id.remove(&row.order_id)?;
            let order = StoredOrder { attempts: u32::try_from(row.attempts).unwrap_or(0), ..order };
            let delivery = OrderDelivery {
                order_id: row.order_id,
                partition: u32::try_from(row.partition).unwrap_or(0),
                offset: row.offset,
                published_at: Timestamp::from_millis(row.published_at),
            };
            let counted = u32::try_from(row.counted).unwrap_or(0);
            Some(ClaimedOrder { order, delivery, counted, may_have_arrived })
        });
        Ok(Turn { claimed: claimed.collect(), unreadable, ..Turn::default() })
    }

    /// Orders that were held under other settings are due again.
    fn release_held(db: &mut Db, settings_epoch: i64, now: Timestamp) -> Result<(), StoreError> {
        let of_others = order_deliveries::held_epoch.ne(settings_epoch);
        let held = || order_deliveries::table.filter(order_deliveries::next_attempt_at.eq(HELD)).filter(of_others);
        if held().select(order_deliveries::order_id).first::<String>(db).optional()?.is_some() {
            diesel::update(held())
                .set((
                    order_deliveries::next_attempt_at.eq(now.as_millis()),
                    order_deliveries::held_epoch.eq(None::<i64>),
                ))
                .execute(db)?;
        }
        Ok(())
    }

    pub(in crate::store) fn due_in(db: &mut Db, held: &[(String, i64)], millis: i64) -> Result<(), StoreError> {
        let at = queries::leases::now(db)?.saturating_add(millis);
        for chunk in held.chunks(ROWS_PER_STATEMENT) {
            let ids = chunk.iter().map(|(id, _)| id);
            let claims = chunk.iter().map(|(_, claim)| *claim);
            // A claim that somebody else has taken over has another mark.
            let ours = order_deliveries::order_id.eq_any(ids).and(order_deliveries::claim.eq_any(claims.map(Some)));
            diesel::update(order_deliveries::table.filter(ours))
                .set(order_deliveries::next_attempt_at.eq(at))
                .execute(db)?;
        }
        Ok(())
    }

    pub(in crate::store) fn release_claims(db: &mut Db) -> Result<usize, StoreError> {
        let now = queries::leases::timestamp(db)?;
        Ok(diesel::update(order_deliveries::table.filter(order_deliveries::claim.is_not_null()))
            .set(order_deliveries::next_attempt_at.eq(now.as_millis()))
            .execute(db)?)
    }
}
