//! HTTP effects that have been committed and wait for the dispatcher.

use super::Store;
use super::connection::{on, queries, statements};
use super::model::{DeadLetter, StoreError};
use super::outbox::lane;
use super::schema::http_calls;
use crate::bus::NewRecord;
use crate::effect::HttpEffect;
use crate::time::Timestamp;

/// What a row takes besides its id and its effect.
const ROW_BYTES: usize = 64;

/// A call that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRow {
    /// What to ask, and for whom.
    pub effect: HttpEffect,
    /// Attempts that failed.
    pub attempts: u32,
    /// When the next attempt may be made; the epoch for a call that was never tried.
    pub next_attempt_at: Timestamp,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// Calls whose time has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpDue {
    /// Those that can be made.
    pub rows: Vec<HttpRow>,
    /// Ids of those whose row cannot be read, each with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpEnd {
    /// The call.
    pub id: String,
    /// What carries its answer.
    pub records: Vec<NewRecord>,
    /// Set if it came to nothing.
    pub dead_letter: Option<DeadLetter>,
}

#[derive(diesel::Insertable)]
#[diesel(table_name = http_calls)]
struct NewCall<'a> {
    id: &'a str,
    effect: String,
    attempts: i32,
    next_attempt_at: i64,
}

impl<'a> NewCall<'a> {
    fn new(effect: &'a HttpEffect) -> Result<Self, StoreError> {
        let text = serde_json::to_string(effect).map_err(|error| StoreError::Refused(error.to_string()))?;
        Ok(Self { id: &effect.id, effect: text, attempts: 0, next_attempt_at: Timestamp::MIN.as_millis() })
    }
}

impl Store {
    /// At most `limit` calls whose time has come, those that wait longest first.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn http_due(&self, now: Timestamp, limit: usize) -> Result<HttpDue, StoreError> {
        self.read(move |database| on!(database, due(now, limit, None))).await
    }

    /// As [`Store::http_due`], but only calls whose number leaves one of these remainders when divided by `slots`: several
    /// dispatchers share the calls that way.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn http_due_in(
        &self,
        now: Timestamp,
        limit: usize,
        slots: i64,
        mine: Vec<i64>,
    ) -> Result<HttpDue, StoreError> {
        self.read(move |database| on!(database, due(now, limit, Some((slots, &mine))))).await
    }

    /// Notes that an attempt failed and when the next one may be made. Nothing happens if the call is no longer there.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn http_attempt_failed(
        &self,
        id: &str,
        attempts: u32,
        next_attempt_at: Timestamp,
        error: &str,
    ) -> Result<(), StoreError> {
        let (id, error) = (id.to_owned(), error.to_owned());
        self.write_repeatable(move |database| on!(database, attempt_failed(&id, attempts, next_attempt_at, &error)))
            .await
    }

    /// Lets calls rest whose rows cannot be read. Their attempts stay as they are.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn http_postpone(&self, ids: Vec<String>, until: Timestamp) -> Result<(), StoreError> {
        self.write_repeatable(move |database| on!(database, postpone(&ids, until))).await
    }

    /// Ends calls, all in one transaction: removes them and puts their answers (lane `dispatch`) and, for what came to
    /// nothing, dead letters in their place. Tells of each whether it was still there; one that has been ended before is
    /// left as it is.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn http_done(&self, calls: Vec<HttpEnd>) -> Result<Vec<bool>, StoreError> {
        self.write(move |database| on!(database, done(&calls))).await
    }

    /// How many calls wait.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn http_depth(&self) -> Result<i64, StoreError> {
        self.read(|database| on!(database, depth())).await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn insert(db: &mut Db, effects: &[HttpEffect]) -> Result<(), StoreError> {
        let rows = effects.iter().map(NewCall::new).collect::<Result<Vec<_>, _>>()?;
        for values in statements(rows, |row| row.id.len() + row.effect.len() + ROW_BYTES) {
            diesel::insert_into(http_calls::table).values(values).execute(db)?;
        }
        Ok(())
    }

    pub(in crate::store) fn due(
        db: &mut Db,
        now: Timestamp,
        limit: usize,
        slots: Option<(i64, &[i64])>,
    ) -> Result<HttpDue, StoreError> {
        // Diesel has no remainder; what is written here are numbers only.
        let slots = slots.map_or_else(
            || "1 = 1".to_owned(),
            |(count, mine)| {
                let mine: Vec<_> = mine.iter().map(ToString::to_string).collect();
                format!("seq % {count} IN ({})", mine.join(", "))
            },
        );
        let rows: Vec<(String, String, i32, i64, Option<String>)> = http_calls::table
            .filter(http_calls::next_attempt_at.le(now.as_millis()))
            .filter(diesel::dsl::sql::<diesel::sql_types::Bool>(&slots))
            .order((http_calls::next_attempt_at, http_calls::seq))
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select((
                http_calls::id,
                http_calls::effect,
                http_calls::attempts,
                http_calls::next_attempt_at,
                http_calls::error,
            ))
            .load(db)?;
        let mut due = HttpDue::default();
        for (id, effect, attempts, next_attempt_at, error) in rows {
            match serde_json::from_str(&effect) {
                Ok(effect) => due.rows.push(HttpRow {
                    effect,
                    attempts: u32::try_from(attempts).unwrap_or(0),
                    next_attempt_at: Timestamp::from_millis(next_attempt_at),
                    error,
                }),
                Err(error) => due.unreadable.push((id, format!("the stored HTTP call cannot be read: {error}"))),
            }
        }
        Ok(due)
    }

    pub(in crate::store) fn postpone(db: &mut Db, ids: &[String], until: Timestamp) -> Result<(), StoreError> {
        diesel::update(http_calls::table.filter(http_calls::id.eq_any(ids)))
            .set(http_calls::next_attempt_at.eq(until.as_millis()))
            .execute(db)?;
        Ok(())
    }

    pub(in crate::store) fn attempt_failed(
        db: &mut Db,
        id: &str,
        attempts: u32,
        next_attempt_at: Timestamp,
        error: &str,
    ) -> Result<(), StoreError> {
        diesel::update(http_calls::table.filter(http_calls::id.eq(id)))
            .set((
                http_calls::attempts.eq(i32::try_from(attempts).unwrap_or(i32::MAX)),
                http_calls::next_attempt_at.eq(next_attempt_at.as_millis()),
                http_calls::error.eq(error),
            ))
            .execute(db)?;
        Ok(())
    }

    pub(in crate::store) fn done(db: &mut Db, calls: &[HttpEnd]) -> Result<Vec<bool>, StoreError> {
        db.transaction(|db| {
            let (mut records, mut dead_letters) = (Vec::new(), Vec::new());
            let mut were_there = Vec::with_capacity(calls.len());
            for call in calls {
                let removed = diesel::delete(http_calls::table.filter(http_calls::id.eq(&call.id))).execute(db)?;
                were_there.push(removed > 0);
                if removed > 0 {
                    records.extend_from_slice(&call.records);
                    dead_letters.extend(call.dead_letter.clone());
                }
            }
            queries::outbox::append(db, lane::DISPATCH, &records)?;
            queries::dead_letters::replace(db, &dead_letters)?;
            Ok(were_there)
        })
    }

    pub(in crate::store) fn depth(db: &mut Db) -> Result<i64, StoreError> {
        Ok(http_calls::table.count().get_result(db)?)
    }
}
