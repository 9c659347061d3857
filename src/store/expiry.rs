//! What has been kept long enough is removed, a few rows at a time.
//!
//! What waits for somebody stays however old it is: orders that have not ended, dead letters that are open, sessions that
//! nobody has left.

use super::Store;
use super::connection::{on, queries};
use super::model::{DeadLetterStatus, StoreError};
use super::schema::{age_prompts, alerts, audit, dead_letters, login_sessions, offsets, recommendations, sessions};
use crate::bus::Topic;
use crate::time::Timestamp;

/// Rows that one transaction removes, at most: it holds up nobody for long.
pub const EXPIRED_ROWS_MAX: usize = 200;

/// What is kept for a while, each as long as is configured for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expiring {
    /// Orders with their history.
    Orders,
    /// Idempotency keys.
    OrderKeys,
    /// Alerts with their evidence.
    Alerts,
    /// How prompts to verify an age ended.
    AgePrompts,
    /// What became of recommendations.
    Recommendations,
    /// Sessions of time sheets.
    Sessions,
    /// Dead letters on which somebody has decided.
    DeadLetters,
    /// Who changed what.
    Audit,
    /// Sessions of people that have ended.
    Logins,
}

impl Expiring {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Orders,
        Self::OrderKeys,
        Self::Alerts,
        Self::AgePrompts,
        Self::Recommendations,
        Self::Sessions,
        Self::DeadLetters,
        Self::Audit,
        Self::Logins,
    ];

    /// The name of its table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::OrderKeys => "order_keys",
            Self::Alerts => "alerts",
            Self::AgePrompts => "age_prompts",
            Self::Recommendations => "recommendations",
            Self::Sessions => "sessions",
            Self::DeadLetters => "dead_letters",
            Self::Audit => "audit",
            Self::Logins => "login_sessions",
        }
    }

    /// True if its times are those of events: a log of last year that is read today is as old as its clock says.
    #[must_use]
    pub const fn is_of_events(self) -> bool {
        matches!(self, Self::Alerts | Self::AgePrompts | Self::Recommendations | Self::Sessions)
    }
}

impl Store {
    /// Removes rows from before this time, the oldest first and at most [`EXPIRED_ROWS_MAX`] of them. Answers how many;
    /// with fewer there are no more.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn expire(&self, what: Expiring, before: Timestamp) -> Result<usize, StoreError> {
        self.write_repeatable(move |database| on!(database, expire(what, before, EXPIRED_ROWS_MAX))).await
    }

    /// The clock of events: the highest of all partitions. `None` before the first event.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|database| on!(database, clock())).await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn expire(
        db: &mut Db,
        what: Expiring,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        match what {
            Expiring::Orders => queries::orders::expire::expire(db, before, limit),
            Expiring::OrderKeys => queries::orders::expire::expire_keys(db, before, limit),
            Expiring::Alerts => expire_alerts(db, before.as_millis(), limit),
            Expiring::AgePrompts => expire_age_prompts(db, before.as_millis(), limit),
            Expiring::Recommendations => expire_recommendations(db, before.as_millis(), limit),
            Expiring::Sessions => expire_sessions(db, before.as_millis(), limit),
            Expiring::DeadLetters => expire_dead_letters(db, before.as_millis(), limit),
            Expiring::Audit => expire_audit(db, before.as_millis(), limit),
            Expiring::Logins => expire_logins(db, before.as_millis(), limit),
        }
    }

    fn rows(limit: usize) -> i64 {
        i64::try_from(limit).unwrap_or(i64::MAX)
    }

    fn expire_alerts(db: &mut Db, before: i64, limit: usize) -> Result<usize, StoreError> {
        let old = alerts::table.filter(alerts::at.lt(before)).order((alerts::at, alerts::id));
        let ids: Vec<String> = old.limit(rows(limit)).select(alerts::id).load(db)?;
        Ok(diesel::delete(alerts::table.filter(alerts::id.eq_any(ids))).execute(db)?)
    }

    fn expire_age_prompts(db: &mut Db, before: i64, limit: usize) -> Result<usize, StoreError> {
        let old = age_prompts::table.filter(age_prompts::at.lt(before)).order((age_prompts::at, age_prompts::id));
        let ids: Vec<String> = old.limit(rows(limit)).select(age_prompts::id).load(db)?;
        Ok(diesel::delete(age_prompts::table.filter(age_prompts::id.eq_any(ids))).execute(db)?)
    }

    fn expire_recommendations(db: &mut Db, before: i64, limit: usize) -> Result<usize, StoreError> {
        let old = recommendations::table.filter(recommendations::at.lt(before));
        let old = old.order((recommendations::at, recommendations::id));
        let old: Vec<(i64, String)> =
            old.limit(rows(limit)).select((recommendations::at, recommendations::id)).load(db)?;
        let (Some((first, _)), Some((last, _))) = (old.first(), old.last()) else { return Ok(0) };
        // The key begins with the time.
        let of_times = recommendations::table.filter(recommendations::at.between(*first, *last));
        let ids = old.iter().map(|(_, id)| id);
        Ok(diesel::delete(of_times.filter(recommendations::id.eq_any(ids))).execute(db)?)
    }

    fn expire_sessions(db: &mut Db, before: i64, limit: usize) -> Result<usize, StoreError> {
        let old = sessions::table.filter(sessions::login_at.lt(before)).filter(sessions::logout_at.lt(before));
        let old = old.order((sessions::login_at, sessions::id));
        let ids: Vec<String> = old.limit(rows(limit)).select(sessions::id).load(db)?;
        Ok(diesel::delete(sessions::table.filter(sessions::id.eq_any(ids))).execute(db)?)
    }

    fn expire_dead_letters(db: &mut Db, before: i64, limit: usize) -> Result<usize, StoreError> {
        let mut removed = 0;
        for status in [DeadLetterStatus::Replayed, DeadLetterStatus::Discarded] {
            let decided = || dead_letters::table.filter(dead_letters::status.eq(status.as_str()));
            let old = decided().filter(dead_letters::at.lt(before)).order((dead_letters::at, dead_letters::id));
            let ids: Vec<String> = old.limit(rows(limit - removed)).select(dead_letters::id).load(db)?;
            removed += diesel::delete(decided().filter(dead_letters::id.eq_any(ids))).execute(db)?;
        }
        Ok(removed)
    }

    fn expire_audit(db: &mut Db, before: i64, limit: usize) -> Result<usize, StoreError> {
        // Entries are written in the order of their times, more or less; the first that is younger ends the search.
        let oldest: Vec<(i64, i64)> =
            audit::table.order(audit::id).limit(rows(limit)).select((audit::id, audit::at)).load(db)?;
        let old = oldest.into_iter().take_while(|(_, at)| *at < before).map(|(id, _)| id);
        Ok(diesel::delete(audit::table.filter(audit::id.eq_any(old.collect::<Vec<_>>()))).execute(db)?)
    }

    fn expire_logins(db: &mut Db, before: i64, limit: usize) -> Result<usize, StoreError> {
        let ended = login_sessions::table.filter(login_sessions::ends_at.lt(before));
        let ended = ended.order((login_sessions::ends_at, login_sessions::id));
        let ids: Vec<String> = ended.limit(rows(limit)).select(login_sessions::id).load(db)?;
        Ok(diesel::delete(login_sessions::table.filter(login_sessions::id.eq_any(ids))).execute(db)?)
    }

    pub(in crate::store) fn clock(db: &mut Db) -> Result<Option<Timestamp>, StoreError> {
        let clocks = offsets::table.filter(offsets::topic.eq(Topic::Events.name()));
        let highest: Option<i64> = clocks.select(diesel::dsl::max(offsets::clock)).first(db)?;
        Ok(highest.map(Timestamp::from_millis))
    }
}
