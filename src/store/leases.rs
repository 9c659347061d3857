//! Leases: what one of several processes has taken for a while, by name. Times are those of the database, so that clocks
//! of machines that differ do no harm.
//!
//! A lease spreads work and keeps processes out of each other's way. Nothing may depend on there being only one holder:
//! one that was paused for long learns too late that its lease is gone.

use std::time::Duration;

use super::Store;
use super::connection::{on, queries};
use super::model::StoreError;
use super::schema::leases;
use crate::time::Timestamp;

/// A lease that has not run out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What was taken.
    pub name: String,
    /// Who has it.
    pub owner: String,
}

/// What a process wants of the leases whose names begin with `prefix`.
#[derive(Debug, Clone, Default)]
pub struct LeaseRequest {
    /// Which leases it is about.
    pub prefix: String,
    /// Who asks.
    pub owner: String,
    /// To be taken if nobody has them.
    pub take: Vec<String>,
    /// To be given back.
    pub give: Vec<String>,
    /// For how long what is taken, and what is held already, shall hold from now on.
    pub hold: Duration,
}

impl Store {
    /// Gives back, renews what the owner holds, takes what is free. Answers all leases of this prefix, by name.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn lease(&self, request: LeaseRequest) -> Result<Vec<Lease>, StoreError> {
        self.write_repeatable(move |database| on!(database, lease(&request))).await
    }

    /// Gives back everything that this owner holds.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn release_leases(&self, owner: &str) -> Result<(), StoreError> {
        let owner = owner.to_owned();
        self.write_repeatable(move |database| on!(database, release(&owner))).await
    }
}

queries! {
    use diesel::prelude::*;
    use diesel::sql_types::BigInt;

    #[derive(QueryableByName)]
    struct Now {
        #[diesel(sql_type = BigInt)]
        now: i64,
    }

    /// Milliseconds since 1970 by the database's clock.
    pub(in crate::store) fn now(db: &mut Db) -> QueryResult<i64> {
        let now: Now = diesel::sql_query(dialect::SELECT_NOW).get_result(db)?;
        Ok(now.now)
    }

    /// As [`now`].
    pub(in crate::store) fn timestamp(db: &mut Db) -> QueryResult<Timestamp> {
        Ok(Timestamp::from_millis(now(db)?))
    }

    pub(in crate::store) fn lease(db: &mut Db, request: &LeaseRequest) -> Result<Vec<Lease>, StoreError> {
        let owner = request.owner.as_str();
        db.transaction(|db| {
            let now = now(db)?;
            let expires_at = now.saturating_add(i64::try_from(request.hold.as_millis()).unwrap_or(i64::MAX));
            let of_prefix = || leases::name.like(format!("{}%", request.prefix));
            let mine = || of_prefix().and(leases::owner.eq(owner));
            if !request.give.is_empty() {
                diesel::delete(leases::table.filter(mine()).filter(leases::name.eq_any(&request.give))).execute(db)?;
            }
            diesel::update(leases::table.filter(mine())).set(leases::expires_at.eq(expires_at)).execute(db)?;
            for name in &request.take {
                let free = leases::table.find(name).filter(leases::expires_at.lt(now));
                let taken = diesel::update(free)
                    .set((leases::owner.eq(owner), leases::expires_at.eq(expires_at)))
                    .execute(db)?;
                if taken == 0 {
                    diesel::insert_or_ignore_into(leases::table)
                        .values((leases::name.eq(name), leases::owner.eq(owner), leases::expires_at.eq(expires_at)))
                        .execute(db)?;
                }
            }
            let rows: Vec<(String, String)> = leases::table
                .filter(of_prefix().and(leases::expires_at.ge(now)))
                .order(leases::name)
                .select((leases::name, leases::owner))
                .load(db)?;
            Ok(rows.into_iter().map(|(name, owner)| Lease { name, owner }).collect())
        })
    }

    pub(in crate::store) fn release(db: &mut Db, owner: &str) -> Result<(), StoreError> {
        diesel::delete(leases::table.filter(leases::owner.eq(owner))).execute(db)?;
        Ok(())
    }
}
