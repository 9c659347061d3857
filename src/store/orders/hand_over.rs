//! Orders that begin to wait for the third party: handed over by the consumer, or sent again by a person.

use super::timeline::NewTimelineRow;
use super::{OrderDelivery, OrderStatus, TimelineKind};
use crate::plugins::order_delivery;
use crate::store::Store;
use crate::store::audit::{Decision, NewEntry};
use crate::store::connection::{ROWS_PER_STATEMENT, on, queries};
use crate::store::model::{DeadLetterStatus, StoreError};
use crate::store::schema::{dead_letters, order_deliveries, order_timeline, orders};

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

impl Store {
    /// Sends a failed order again, with all its attempts. Answers false if it has not failed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such order.
    pub async fn resend_order(&self, id: &str, actor: &str) -> Result<bool, StoreError> {
        let (id, actor, decision) = (id.to_owned(), actor.to_owned(), Decision::new());
        self.write(move |database| {
            decision.begin();
            on!(database, resend_one(&id, &actor, &decision))
        })
        .await
    }
}

queries! {
    use diesel::prelude::*;

    /// Orders that were read from the bus wait for the third party from now on. One that is there already, or was
    /// delivered or has failed, stays as it is.
    pub(in crate::store) fn hand_over(db: &mut Db, deliveries: &[OrderDelivery]) -> Result<(), StoreError> {
        for chunk in deliveries.chunks(ROWS_PER_STATEMENT) {
            let rows: Vec<_> = chunk
                .iter()
                .map(|delivery| {
                    let place = (i32::try_from(delivery.partition).unwrap_or(0), delivery.offset);
                    NewDelivery::new(&delivery.order_id, place, delivery.published_at.as_millis(), 0)
                })
                .collect();
            diesel::insert_or_ignore_into(order_deliveries::table).values(rows).execute(db)?;
            // Read after the insert, which has waited for a dispatcher that was just ending one of these orders: read before, the
            // order would still be pending, and its delivery would come back.
            let ids = || chunk.iter().map(|delivery| &delivery.order_id);
            let pending: Vec<String> = orders::table
                .filter(orders::id.eq_any(ids()))
                .filter(orders::status.eq(OrderStatus::Pending.as_str()))
                .select(orders::id)
                .load(db)?;
            let pending: std::collections::HashSet<String> = pending.into_iter().collect();
            let ended: Vec<&String> = ids().filter(|id| !pending.contains(*id)).collect();
            if !ended.is_empty() {
                diesel::delete(order_deliveries::table.filter(order_deliveries::order_id.eq_any(ended))).execute(db)?;
            }
        }
        Ok(())
    }

    pub(in crate::store) fn resend_one(
        db: &mut Db,
        id: &str,
        actor: &str,
        decision: &Decision,
    ) -> Result<bool, StoreError> {
        db.transaction(|db| {
            // Takes the row's lock: an earlier try of this decision has ended behind it.
            let found = diesel::update(orders::table.find(id)).set(orders::status.eq(orders::status)).execute(db)?;
            if found == 0 {
                return Err(StoreError::NotFound);
            }
            if queries::audit::done(db, decision)?.is_some() {
                return Ok(true);
            }
            let resent = resend(db, id, actor)?;
            if resent {
                let decision = Some(decision.id());
                let entry = NewEntry { actor, action: "order.resend", subject: id, decision, ..NewEntry::default() };
                queries::audit::write(db, &entry)?;
            }
            Ok(resent)
        })
    }

    /// A failed order is pending again and due at once; its open dead letter counts as replayed. False, and nothing
    /// happens, if it has not failed.
    pub(in crate::store) fn resend(db: &mut Db, id: &str, actor: &str) -> Result<bool, StoreError> {
        let now = queries::leases::now(db)?;
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
