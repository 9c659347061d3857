//! Orders on their way to the third party: handed over by the consumer, claimed by a dispatcher, settled by it.
//!
//! A claim is a lease: it moves the order's next attempt to the lease's end, so what a dispatcher that died had claimed is
//! due again by itself. Only one turn at a time claims, whatever the number of dispatchers: it holds the row of the rate
//! that they share.

use std::collections::HashMap;
use std::sync::Arc;

use super::read::OrderRow;
use super::settle::{allowance, ended_letter, ended_records};
use super::{
    ClaimRequest, ClaimedOrder, OrderDelivery, OrderStatus, Settled, Settlement, StoredOrder, TimelineKind, Turn,
};
use crate::plugins::order_delivery;
use crate::store::Store;
use crate::store::audit::NewEntry;
use crate::store::connection::{ROWS_PER_STATEMENT, on, queries};
use crate::store::model::{DeadLetterStatus, StoreError};
use crate::store::outbox::lane;
use crate::store::schema::{dead_letters, order_deliveries, order_dispatch, order_timeline, orders};
use crate::time::Timestamp;

/// The only row of `order_dispatch`.
const ROW: i32 = 1;
/// Where orders wait that the plugin's eligibility does not let through.
const HELD: i64 = i64::MAX;

#[derive(diesel::Insertable)]
#[diesel(table_name = order_deliveries)]
struct NewDelivery<'a> {
    order_id: &'a str,
    partition: i32,
    offset: i64,
    published_at: i64,
    attempts: i32,
    counted: i32,
    next_attempt_at: i64,
}

impl<'a> NewDelivery<'a> {
    fn new(order_id: &'a str, place: (i32, i64), published_at: i64, attempts: u32) -> Self {
        let attempts = i32::try_from(attempts).unwrap_or(i32::MAX);
        Self { order_id, partition: place.0, offset: place.1, published_at, attempts, counted: 0, next_attempt_at: 0 }
    }
}

#[derive(diesel::Insertable)]
#[diesel(table_name = order_timeline, treat_none_as_default_value = false)]
struct NewTimelineRow<'a> {
    order_id: &'a str,
    at: i64,
    kind: &'a str,
    attempt: Option<i32>,
    status: Option<i32>,
    duration_ms: Option<i64>,
    message: Option<&'a str>,
}

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

impl Settled {
    fn attempts(&self) -> u32 {
        self.claimed.order.attempts + u32::from(self.attempt.is_some())
    }

    fn timeline_row(&self) -> Option<NewTimelineRow<'_>> {
        let attempt = self.attempt?;
        let message = match &self.settlement {
            Settlement::Retry { error, .. } | Settlement::Failed { error, .. } => Some(error.as_str()),
            _ => None,
        };
        Some(NewTimelineRow {
            order_id: &self.claimed.order.id,
            at: attempt.at.as_millis(),
            kind: TimelineKind::Attempt.as_str(),
            attempt: i32::try_from(self.attempts()).ok(),
            status: attempt.status.map(i32::from),
            duration_ms: i64::try_from(attempt.duration_ms).ok(),
            message,
        })
    }
}

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
        self.write(move |database| on!(database, turn(&settled, claim, Timestamp::now()))).await
    }

    /// Orders that a dispatcher had claimed are due at once: nobody is at work on them any more.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn release_order_claims(&self) -> Result<usize, StoreError> {
        self.write_repeatable(|database| on!(database, release_claims(Timestamp::now()))).await
    }

    /// Sends a failed order again, with all its attempts. Answers false if it has not failed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such order.
    pub async fn resend_order(&self, id: &str, actor: &str) -> Result<bool, StoreError> {
        let (id, actor) = (id.to_owned(), actor.to_owned());
        self.write(move |database| on!(database, resend_one(&id, &actor))).await
    }
}

queries! {
    use diesel::prelude::*;

    /// Orders that were read from the bus wait for the third party from now on. One that is there already, or was
    /// delivered or has failed, stays as it is.
    pub(in crate::store) fn hand_over(db: &mut Db, deliveries: &[OrderDelivery]) -> Result<(), StoreError> {
        for chunk in deliveries.chunks(ROWS_PER_STATEMENT) {
            let pending: Vec<String> = orders::table
                .filter(orders::id.eq_any(chunk.iter().map(|delivery| &delivery.order_id)))
                .filter(orders::status.eq(OrderStatus::Pending.as_str()))
                .select(orders::id)
                .load(db)?;
            let pending: std::collections::HashSet<String> = pending.into_iter().collect();
            let rows: Vec<_> = chunk
                .iter()
                .filter(|delivery| pending.contains(&delivery.order_id))
                .map(|delivery| {
                    let place = (i32::try_from(delivery.partition).unwrap_or(0), delivery.offset);
                    NewDelivery::new(&delivery.order_id, place, delivery.published_at.as_millis(), 0)
                })
                .collect();
            if !rows.is_empty() {
                diesel::insert_or_ignore_into(order_deliveries::table).values(rows).execute(db)?;
            }
        }
        Ok(())
    }

    pub(in crate::store) fn turn(
        db: &mut Db,
        settled: &[Settled],
        claim: Option<ClaimRequest>,
        now: Timestamp,
    ) -> Result<Turn, StoreError> {
        db.transaction(|db| {
            let ended = settle(db, settled, now)?;
            let mut turn = match claim {
                Some(request) => claim_due(db, request, now)?,
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
            wait(db, one)?;
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
    fn wait(db: &mut Db, one: &Settled) -> Result<(), StoreError> {
        let row = order_deliveries::table.find(&one.claimed.order.id);
        let unclaimed = order_deliveries::claim.eq(None::<i64>);
        match &one.settlement {
            Settlement::Delivered | Settlement::Failed { .. } => {}
            Settlement::Released { until } => {
                diesel::update(row)
                    .set((unclaimed, order_deliveries::next_attempt_at.eq(until.as_millis())))
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
            Settlement::Retry { at, counted, error } => {
                let attempts = i32::try_from(one.attempts()).unwrap_or(i32::MAX);
                diesel::update(row)
                    .set((
                        unclaimed,
                        order_deliveries::next_attempt_at.eq(at.as_millis()),
                        order_deliveries::attempts.eq(attempts),
                        order_deliveries::counted.eq(order_deliveries::counted + i32::from(*counted)),
                        order_deliveries::last_error.eq(error),
                    ))
                    .execute(db)?;
                diesel::update(orders::table.find(&one.claimed.order.id))
                    .set(orders::attempts.eq(attempts))
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
            diesel::update(orders::table.filter(orders::id.eq_any(&ids)))
                .set((
                    orders::status.eq(status.as_str()),
                    orders::processed_at.eq(processed_at),
                    orders::attempts.eq(orders::attempts + 1),
                ))
                .execute(db)?;
            let rows: Vec<OrderRow> = orders::table.filter(orders::id.eq_any(&ids)).load(db)?;
            let rows = rows.into_iter().map(OrderRow::into_order).collect::<Result<Vec<_>, _>>()?;
            let by_id: HashMap<&str, &StoredOrder> = rows.iter().map(|order| (order.id.as_str(), order)).collect();
            let stored = |one: &Settled| by_id.get(one.claimed.order.id.as_str()).copied();
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

    fn claim_due(db: &mut Db, request: ClaimRequest, now: Timestamp) -> Result<Turn, StoreError> {
        release_held(db, request.settings_epoch, now)?;
        let due_from: Option<i64> = order_deliveries::table
            .filter(order_deliveries::next_attempt_at.lt(HELD))
            .select(diesel::dsl::min(order_deliveries::next_attempt_at))
            .first(db)?;
        let Some(due_from) = due_from else { return Ok(Turn::default()) };
        if due_from > now.as_millis() {
            return Ok(Turn { next_due: Some(Timestamp::from_millis(due_from)), ..Turn::default() });
        }
        let now_micros = now.as_millis().saturating_mul(1000);
        // Takes the row's lock before anything is looked at: one turn at a time claims.
        diesel::update(order_dispatch::table.find(ROW))
            .set(order_dispatch::used_until.eq(order_dispatch::used_until + 1))
            .execute(db)?;
        let used_until: i64 = order_dispatch::table.find(ROW).select(order_dispatch::used_until).first(db)?;
        let allowance = allowance(request, now_micros, used_until);
        if allowance.orders == 0 {
            return Ok(Turn { rate_free_at: Some(allowance.free_at), ..Turn::default() });
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
        let claimed = take(db, rows, request, now)?;
        Ok(Turn { claimed, ..Turn::default() })
    }

    /// Attempts whose dispatcher is gone: what came of them is not known, and the order may have arrived.
    fn note_lost(db: &mut Db, rows: &mut [DeliveryRow], now: Timestamp) -> Result<(), StoreError> {
        for row in rows.iter_mut().filter(|row| row.claim.is_some()) {
            row.attempts = row.attempts.saturating_add(1);
            diesel::update(order_deliveries::table.find(&row.order_id))
                .set(order_deliveries::attempts.eq(row.attempts))
                .execute(db)?;
            diesel::update(orders::table.find(&row.order_id)).set(orders::attempts.eq(row.attempts)).execute(db)?;
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
    ) -> Result<Vec<ClaimedOrder>, StoreError> {
        note_lost(db, &mut rows, now)?;
        let mut by_id: HashMap<String, StoredOrder> = HashMap::new();
        for chunk in rows.chunks(ROWS_PER_STATEMENT) {
            let ids: Vec<&str> = chunk.iter().map(|row| row.order_id.as_str()).collect();
            diesel::update(order_deliveries::table.filter(order_deliveries::order_id.eq_any(&ids)))
                .set((
                    order_deliveries::claim.eq(request.claim),
                    order_deliveries::next_attempt_at.eq(now.as_millis().saturating_add(request.lease_ms)),
                ))
                .execute(db)?;
            let found: Vec<OrderRow> = orders::table.filter(orders::id.eq_any(&ids)).load(db)?;
            for row in found {
                let order = row.into_order()?;
                by_id.insert(order.id.clone(), order);
            }
        }
        let claimed = rows.into_iter().filter_map(|row| {
            let order = by_id.remove(&row.order_id)?;
            let order = StoredOrder { attempts: u32::try_from(row.attempts).unwrap_or(0), ..order };
            let delivery = OrderDelivery {
                order_id: row.order_id,
                partition: u32::try_from(row.partition).unwrap_or(0),
                offset: row.offset,
                published_at: Timestamp::from_millis(row.published_at),
            };
            Some(ClaimedOrder { order, delivery, counted: u32::try_from(row.counted).unwrap_or(0) })
        });
        Ok(claimed.collect())
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

    pub(in crate::store) fn release_claims(db: &mut Db, now: Timestamp) -> Result<usize, StoreError> {
        Ok(diesel::update(order_deliveries::table.filter(order_deliveries::claim.is_not_null()))
            .set(order_deliveries::next_attempt_at.eq(now.as_millis()))
            .execute(db)?)
    }

    pub(in crate::store) fn resend_one(db: &mut Db, id: &str, actor: &str) -> Result<bool, StoreError> {
        db.transaction(|db| {
            orders::table.find(id).select(orders::id).first::<String>(db)?;
            let resent = resend(db, id, actor)?;
            if resent {
                let entry = NewEntry { actor, action: "order.resend", subject: id, ..NewEntry::default() };
                queries::audit::write(db, &entry)?;
            }
            Ok(resent)
        })
    }

    /// A failed order is pending again and due at once; its open dead letter counts as replayed. False, and nothing
    /// happens, if it has not failed.
    pub(in crate::store) fn resend(db: &mut Db, id: &str, actor: &str) -> Result<bool, StoreError> {
        let now = Timestamp::now().as_millis();
        let changed = diesel::update(orders::table.find(id))
            .filter(orders::status.eq(OrderStatus::Failed.as_str()))
            .set(orders::status.eq(OrderStatus::Pending.as_str()))
            .execute(db)?;
        if changed == 0 {
            return Ok(false);
        }
        let letter = order_delivery::dead_letter_id(id);
        let place: Option<(i32, i64)> = dead_letters::table
            .find(&letter)
            .select((dead_letters::partition, dead_letters::offset))
            .first(db)
            .optional()?;
        let (attempts, published_at): (i32, Option<i64>) =
            orders::table.find(id).select((orders::attempts, orders::published_at)).first(db)?;
        let attempts = u32::try_from(attempts).unwrap_or(0);
        let row = NewDelivery::new(id, place.unwrap_or((0, 0)), published_at.unwrap_or(now), attempts);
        let row = NewDelivery { next_attempt_at: now, ..row };
        diesel::insert_into(order_deliveries::table).values(row).execute(db)?;
        diesel::update(dead_letters::table.find(&letter))
            .filter(dead_letters::status.eq(DeadLetterStatus::Open.as_str()))
            .set(dead_letters::status.eq(DeadLetterStatus::Replayed.as_str()))
            .execute(db)?;
        diesel::insert_into(order_timeline::table)
            .values(NewTimelineRow {
                order_id: id,
                at: now,
                kind: TimelineKind::Resent.as_str(),
                attempt: None,
                status: None,
                duration_ms: None,
                message: Some(actor),
            })
            .execute(db)?;
        Ok(true)
    }
}
