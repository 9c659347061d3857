//! Orders for those who look: one, many, and how many there are.

use diesel::dsl::min;

use super::{
    OrderDetail, OrderFilter, OrderStats, OrderStatus, StoredDelivery, StoredOrder, TimelineEntry, TimelineKind,
};
use crate::orders::order::lowest_id;
use crate::store::Store;
use crate::store::connection::{on, queries};
use crate::store::cursor::{Cut, Page};
use crate::store::model::StoreError;
use crate::store::schema::{order_counts, order_deliveries, order_outbox, order_timeline, orders};
use crate::time::Timestamp;

#[derive(diesel::Queryable)]
pub(super) struct OrderRow {
    id: String,
    store_id: String,
    terminal_id: String,
    status: String,
    document: String,
    created_at: i64,
    published_at: Option<i64>,
    processed_at: Option<i64>,
    attempts: i32,
    pub(super) may_have_arrived: bool,
}

impl OrderRow {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn into_order(self) -> Result<StoredOrder, StoreError> {
        let refused = |why: String| StoreError::Refused(format!("order {} cannot be read: {why}", self.id));
        let status = OrderStatus::from_name(&self.status)
            .ok_or_else(|| refused(format!("its status {} is not known", self.status)))?;
        // What is made of it later relies on an object without blanks around it.
        let document: Result<&serde_json::value::RawValue, _> = serde_json::from_str(&self.document);
        match document {
            Ok(value) if value.get().starts_with('{') && value.get().len() == self.document.len() => {}
            Ok(_) => return Err(refused("its document is no JSON object".to_owned())),
            Err(error) => return Err(refused(format!("its document is no JSON: {error}"))),
        }
        Ok(StoredOrder {
            id: self.id,
            store_id: self.store_id,
            terminal_id: self.terminal_id,
            status,
            document: self.document,
            created_at: Timestamp::from_millis(self.created_at),
            published_at: self.published_at.map(Timestamp::from_millis),
            processed_at: self.processed_at.map(Timestamp::from_millis),
            attempts: u32::try_from(self.attempts).unwrap_or(0),
        })
    }
}

#[derive(diesel::Queryable)]
struct TimelineRow {
    at: i64,
    kind: String,
    attempt: Option<i32>,
    status: Option<i32>,
    duration_ms: Option<i64>,
    message: Option<String>,
}

impl TimelineRow {
    fn into_entry(self) -> Option<TimelineEntry> {
        Some(TimelineEntry {
            at: Timestamp::from_millis(self.at),
            kind: TimelineKind::from_name(&self.kind)?,
            attempt: self.attempt.and_then(|attempt| u32::try_from(attempt).ok()),
            status: self.status.and_then(|status| u16::try_from(status).ok()),
            duration_ms: self.duration_ms.and_then(|duration| u64::try_from(duration).ok()),
            message: self.message,
        })
    }
}

/// Next attempt, claim, settings that hold it, last error.
type DeliveryRow = (i64, Option<i64>, Option<i64>, Option<String>);

impl Store {
    /// Orders, newest first.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a cursor or limit that makes no sense.
    pub async fn orders(
        &self,
        filter: OrderFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<StoredOrder>, StoreError> {
        let cut = Cut::new(cursor, limit)?;
        self.read(move |database| on!(database, page(&filter, &cut))).await
    }

    /// One order with all that is known of it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none of that id.
    pub async fn order(&self, id: &str) -> Result<OrderDetail, StoreError> {
        let id = id.to_owned();
        self.read(move |database| on!(database, detail(&id))).await
    }

    /// How many orders there are, and what waits.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn order_stats(&self) -> Result<OrderStats, StoreError> {
        self.read(|database| on!(database, stats())).await
    }

    /// Which of these orders are not there.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn unknown_orders(&self, ids: Vec<String>) -> Result<Vec<String>, StoreError> {
        self.read(move |database| on!(database, unknown(&ids))).await
    }

    /// How many orders wait to be put on the bus, but for those that it refused, and how many are on their way to the third
    /// party, but for those that the plugin's eligibility holds.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn orders_under_way(&self) -> Result<(i64, i64), StoreError> {
        self.read(|database| on!(database, under_way())).await
    }
}

queries! {
    use diesel::prelude::*;

    type Boxed<'a> = orders::BoxedQuery<'a, <Db as Connection>::Backend>;

    fn filtered<'a>(filter: &'a OrderFilter, cut: &'a Cut<String>) -> Boxed<'a> {
        let mut query = orders::table.into_boxed().order(orders::id.desc());
        if let Some(status) = filter.status {
            query = query.filter(orders::status.eq(status.as_str()));
        }
        if let Some(store_id) = &filter.store_id {
            query = query.filter(orders::store_id.eq(store_id));
        }
        if let Some(terminal_id) = &filter.terminal_id {
            query = query.filter(orders::terminal_id.eq(terminal_id));
        }
        // Ids begin with the time of acceptance.
        if let Some(from) = filter.from {
            query = query.filter(orders::id.ge(lowest_id(from)));
        }
        if let Some(to) = filter.to {
            query = query.filter(orders::id.lt(lowest_id(to)));
        }
        if let Some(after) = &cut.after {
            query = query.filter(orders::id.lt(after));
        }
        query
    }

    pub(in crate::store) fn page(
        db: &mut Db,
        filter: &OrderFilter,
        cut: &Cut<String>,
    ) -> Result<Page<StoredOrder>, StoreError> {
        let bytes = diesel::dsl::sql::<diesel::sql_types::BigInt>("OCTET_LENGTH(document)");
        let bytes: Vec<i64> = filtered(filter, cut).limit(cut.rows()).select(bytes).load(db)?;
        let fitting = cut.fitting(&bytes);
        let rows: Vec<OrderRow> =
            filtered(filter, cut).limit(i64::try_from(fitting).expect("a page has at most a thousand items")).load(db)?;
        // One that cannot be read hides none of the others.
        let unreadable = |error: &StoreError| tracing::warn!(%error, "an order is not listed");
        let items = rows.into_iter().filter_map(|row| row.into_order().inspect_err(unreadable).ok()).collect();
        Ok(cut.page_with(items, bytes.len() > fitting, |order: &StoredOrder| order.id.clone()))
    }

    pub(in crate::store) fn detail(db: &mut Db, id: &str) -> Result<OrderDetail, StoreError> {
        let order = orders::table.find(id).first::<OrderRow>(db)?.into_order()?;
        let delivery: Option<DeliveryRow> = order_deliveries::table
            .find(id)
            .select((
                order_deliveries::next_attempt_at,
                order_deliveries::claim,
                order_deliveries::held_epoch,
                order_deliveries::last_error,
            ))
            .first(db)
            .optional()?;
        let parked: Option<Option<String>> = order_outbox::table
            .filter(order_outbox::parked_at.is_not_null().and(order_outbox::order_id.eq(id)))
            .select(order_outbox::parked_reason)
            .first(db)
            .optional()?;
        let rows: Vec<TimelineRow> = order_timeline::table
            .filter(order_timeline::order_id.eq(id))
            .order(order_timeline::id)
            .select((
                order_timeline::at,
                order_timeline::kind,
                order_timeline::attempt,
                order_timeline::status,
                order_timeline::duration_ms,
                order_timeline::message,
            ))
            .load(db)?;
        Ok(OrderDetail {
            order,
            delivery: delivery.map(|(next_attempt_at, claim, held_epoch, last_error)| StoredDelivery {
                next_attempt_at: Timestamp::from_millis(next_attempt_at),
                claimed: claim.is_some(),
                held: held_epoch.is_some(),
                last_error,
            }),
            parked: parked.flatten(),
            history: rows.into_iter().filter_map(TimelineRow::into_entry).collect(),
        })
    }

    pub(in crate::store) fn stats(db: &mut Db) -> Result<OrderStats, StoreError> {
        // Both are few, and counted in the index alone; those that were delivered are as many as there is history.
        let mut few = |status: OrderStatus| -> Result<i64, StoreError> {
            Ok(orders::table.filter(orders::status.eq(status.as_str())).count().get_result(db)?)
        };
        let (pending, failed) = (few(OrderStatus::Pending)?, few(OrderStatus::Failed)?);
        let delivered = order_counts::table.find(OrderStatus::Success.as_str()).select(order_counts::orders);
        let success = delivered.first(db).optional()?.unwrap_or(0);
        let oldest: Option<String> = orders::table
            .filter(orders::status.eq(OrderStatus::Pending.as_str()))
            .select(min(orders::id))
            .first(db)?;
        let oldest_pending_at: Option<i64> = match oldest {
            Some(id) => orders::table.find(id).select(orders::created_at).first(db).optional()?,
            None => None,
        };
        Ok(OrderStats {
            pending,
            success,
            failed,
            oldest_pending_at: oldest_pending_at.map(Timestamp::from_millis),
            unpublished: order_outbox::table.count().get_result(db)?,
            parked: order_outbox::table.filter(order_outbox::parked_at.is_not_null()).count().get_result(db)?,
        })
    }

    pub(in crate::store) fn unknown(db: &mut Db, ids: &[String]) -> Result<Vec<String>, StoreError> {
        let mut unknown = Vec::new();
        for chunk in ids.chunks(crate::store::connection::ROWS_PER_STATEMENT) {
            let known: Vec<String> =
                orders::table.filter(orders::id.eq_any(chunk)).select(orders::id).load(db)?;
            let known: std::collections::HashSet<String> = known.into_iter().collect();
            unknown.extend(chunk.iter().filter(|id| !known.contains(*id)).cloned());
        }
        Ok(unknown)
    }

    pub(in crate::store) fn under_way(db: &mut Db) -> Result<(i64, i64), StoreError> {
        let unpublished = order_outbox::table.filter(order_outbox::parked_at.is_null()).count().get_result(db)?;
        let undelivered =
            order_deliveries::table.filter(order_deliveries::held_epoch.is_null()).count().get_result(db)?;
        Ok((unpublished, undelivered))
    }
}
